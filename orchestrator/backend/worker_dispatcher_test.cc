// SPDX-License-Identifier: Apache-2.0
// The dispatcher over a transport that the test plays, on a clock that the test moves.
#include "orchestrator/backend/worker_dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "common/clock.h"
#include "common/status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;
using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kLook = kSecond / 4;  // longer than until a lost worker is asked again

// Ends when the test says so.
class PlayedCall final : public WorkerCall {
 public:
  explicit PlayedCall(Start start) : start_(std::move(start)) {}
  void Begin() override {}
  void CancelOnWorker() override {}
  void Abandon() override { abandoned_ = true; }
  bool answered() const override { return false; }
  int64_t messages() const override { return 0; }

  void End(absl::Status status, bool retryable = false) {
    ended_ = true;
    WorkerCallEnd end;
    end.outcome.status = std::move(status);
    end.outcome.retryable = retryable;
    start_.done(std::move(end));
  }
  const Start& start() const { return start_; }
  bool ended() const { return ended_; }
  bool abandoned() const { return abandoned_; }

 private:
  const Start start_;
  bool ended_ = false, abandoned_ = false;
};

// Workers say who they are as soon as they are asked, unless the test holds that back.
class PlayedTransport final : public WorkerTransport {
 public:
  using Told = std::function<void(const absl::Status&)>;

  std::shared_ptr<WorkerCall> MakeCall(int32_t, WorkerCall::Start start) override {
    calls.push_back(std::make_shared<PlayedCall>(std::move(start)));
    return calls.back();
  }
  void GetModel(int32_t, std::function<void(const absl::Status&, const pb::GetModelResponse&)> done) override {
    pb::GetModelResponse response;
    response.set_instance_id("one");
    ended ? done(Cancelled("ended"), {}) : silent ? held.push_back(std::move(done)) : done(absl::OkStatus(), response);
  }
  void GetLoad(int32_t, std::function<void(const absl::Status&, const pb::GetLoadResponse&)> done) override {
    ended ? done(Cancelled("ended"), {}) : done(mute ? Unavailable("not a word") : absl::OkStatus(), {});
  }
  void CancelRequests(int32_t, const std::vector<std::string>& request_ids, Told done) override {
    told.push_back(request_ids);
    done(hears ? absl::OkStatus() : Unavailable("it has not heard"));
  }
  void EndAsking() override {
    ended = true;
    for (const auto& done : std::exchange(held, {})) done(Cancelled("ended"), {});
    for (const auto& call : calls) {  // abandoned by now
      if (!call->ended()) call->End(Cancelled("abandoned"));
    }
  }

  std::vector<std::shared_ptr<PlayedCall>> calls;
  std::vector<std::function<void(const absl::Status&, const pb::GetModelResponse&)>> held;
  std::vector<std::vector<std::string>> told;
  bool silent = false, ended = false, hears = true, mute = false;
};

class Sink final : public CallSink {
 public:
  void OnDelta(CallId, CallDelta) override {}
  void OnDone(CallId id, CallOutcome outcome) override { ends[id] = std::move(outcome); }
  std::map<CallId, CallOutcome> ends;
};

class WorkerDispatcherTest : public ::testing::Test {
 protected:
  WorkerDispatcherTest() { Open({}); }
  void Open(WorkerBackendOptions options) {
    dispatcher_.reset();
    options.clock = &clock_;
    auto transport = std::make_unique<PlayedTransport>();
    transport_ = transport.get();
    dispatcher_ = std::make_unique<WorkerDispatcher>(std::vector<WorkerMember>{{.name = "m", .addresses = {"w"}}},
                                                     std::vector<std::string>{"w"}, options, std::move(transport));
    dispatcher_->Housekeep();
  }
  void Pass(int64_t ns) {
    clock_.AdvanceNs(ns);
    dispatcher_->Housekeep();
  }
  void Start(CallId id) { dispatcher_->Start({.id = id, .member = "m"}, &sink_); }
  size_t begun() const { return transport_->calls.size(); }
  PlayedCall& call(size_t i) { return *transport_->calls[i]; }
  // A call that its worker is lost with, and the worker is back.
  void LoseOne(CallId id) {
    Start(id);
    ASSERT_EQ(begun(), id);
    call(id - 1).End(Unavailable("lost"), /*retryable=*/true);
    ASSERT_TRUE(sink_.ends.at(id).retryable);
    Pass(kLook);
  }

  ManualClock clock_{kSecond};
  PlayedTransport* transport_ = nullptr;
  Sink sink_;
  std::unique_ptr<WorkerDispatcher> dispatcher_;
};

TEST_F(WorkerDispatcherTest, AWorkerThatLosesTenCallsInARowIsLeftAloneForThirtySeconds) {
  for (CallId id = 1; id <= 9; ++id) LoseOne(id);
  Start(10);
  ASSERT_EQ(begun(), 10u) << "nine are not too many";
  call(9).End(Unavailable("lost"), true);
  Pass(kLook);
  Start(11);
  Start(12);
  EXPECT_EQ(begun(), 10u) << "it says that it is there, and is not asked";
  Pass(15 * kSecond + 1);
  EXPECT_THAT(sink_.ends.at(11).status, StatusIs(absl::StatusCode::kUnavailable,
                                                 HasSubstr("NO_WORKER: no worker of member \"m\" can be reached; w "
                                                           "is left alone after 10 failures in a row")));
  // Thirty seconds after the tenth, one call tries it, and the others wait for how that ends.
  Pass(15 * kSecond - kLook - 2);
  Start(13);
  Start(14);
  EXPECT_EQ(begun(), 10u);
  Pass(kLook);
  ASSERT_EQ(begun(), 11u);
  EXPECT_EQ(call(10).start().request.id, 13u);
  call(10).End(absl::OkStatus());
  EXPECT_OK(sink_.ends.at(13).status);
  EXPECT_EQ(begun(), 12u);
}

TEST_F(WorkerDispatcherTest, AFailedTrialIsAnotherPause) {
  for (CallId id = 1; id <= 10; ++id) LoseOne(id);
  Pass(30 * kSecond);
  Start(11);
  ASSERT_EQ(begun(), 11u);
  call(10).End(Unavailable("lost"), true);
  Pass(kLook);
  Start(12);
  EXPECT_EQ(begun(), 11u);
}

TEST_F(WorkerDispatcherTest, ATrialThatIsNotHeardOfIsAnotherPause) {
  for (CallId id = 1; id <= 10; ++id) LoseOne(id);
  Pass(30 * kSecond);
  Start(11);
  ASSERT_EQ(begun(), 11u);
  transport_->mute = transport_->silent = true;
  for (int i = 0; i < 4; ++i) Pass(5 * kSecond);
  ASSERT_TRUE(call(10).abandoned()) << "its lease ran out";
  call(10).End(Cancelled("abandoned"));
  EXPECT_THAT(sink_.ends.at(11).status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("LEASE")));
  transport_->mute = transport_->silent = false;
  pb::GetModelResponse here;
  here.set_instance_id("one");
  for (const auto& done : std::exchange(transport_->held, {})) done(absl::OkStatus(), here);
  Pass(kLook);
  Start(12);
  EXPECT_EQ(begun(), 11u) << "it is there again, and left alone";
  Pass(14 * kSecond);
  Start(13);
  EXPECT_EQ(begun(), 11u);
}

TEST_F(WorkerDispatcherTest, CallsThatGoDownTogetherCountOnce) {
  for (CallId id = 1; id <= 20; ++id) Start(id);
  ASSERT_EQ(begun(), 20u);
  for (size_t i = 0; i < 20; ++i) call(i).End(Unavailable("lost"), true);
  Pass(kLook);
  Start(21);
  EXPECT_EQ(begun(), 21u);
}

TEST_F(WorkerDispatcherTest, AnswersCallsRefusedAndDrainingAreNoFailures) {
  const absl::Status ends[] = {absl::OkStatus(), InvalidArgument("refused"), Unavailable("DRAINING: it leaves")};
  CallId id = 0;
  for (int i = 0; i < 12; ++i) {
    for (const absl::Status& end : ends) {
      Start(++id);
      ASSERT_EQ(begun(), id);
      call(id - 1).End(end, end.code() == absl::StatusCode::kUnavailable);
      Pass(2 * kSecond);  // until one that leaves is asked again
    }
  }
}

TEST_F(WorkerDispatcherTest, StoppedItWaitsForNobodyWhoIsGone) {
  transport_->silent = true;
  LoseOne(1);
  ASSERT_EQ(transport_->held.size(), 1u) << "it is asked whether it is back, and is gone";
  dispatcher_.reset();  // would wait for the answer
}

TEST_F(WorkerDispatcherTest, WhatWasGivenUpIsToldUntilItIsHeard) {
  Start(1);
  dispatcher_->Cancel(1);
  Pass(2 * kSecond + 1);
  ASSERT_TRUE(call(0).abandoned());
  call(0).End(Cancelled("abandoned"));
  EXPECT_THAT(transport_->told, IsEmpty());
  transport_->hears = false;
  const std::string id = call(0).start().request_id;
  Pass(5 * kSecond);  // it is asked how it does, and answers
  Pass(0);
  EXPECT_THAT(transport_->told, ElementsAre(ElementsAre(id)));
  transport_->hears = true;
  Pass(5 * kSecond);
  Pass(0);
  EXPECT_THAT(transport_->told, ElementsAre(ElementsAre(id), ElementsAre(id)));
  Pass(5 * kSecond);
  Pass(0);
  EXPECT_EQ(transport_->told.size(), 2u);
}

TEST(GrpcTransport, EndsWhatItAsksWhenItIsTold) {
  // Nobody is there: without it the answer is DEADLINE_EXCEEDED after two seconds.
  auto transport = NewGrpcTransport({"unix:/nobody/listens/here"}, {});
  ASSERT_OK(transport);
  for (const bool before : {true, false}) {
    Mutex mutex;
    CondVar changed;
    std::optional<absl::Status> answer;
    if (!before) (*transport)->EndAsking();
    (*transport)->GetModel(0, [&](const absl::Status& status, const pb::GetModelResponse&) {
      MutexLock lock(&mutex);
      answer = status;
      changed.SignalAll();
    });
    if (before) (*transport)->EndAsking();
    MutexLock lock(&mutex);
    while (!answer.has_value()) changed.Wait(&mutex);
    EXPECT_THAT(*answer, StatusIs(absl::StatusCode::kCancelled));
  }
}

}  // namespace
}  // namespace conclave::orchestrator
