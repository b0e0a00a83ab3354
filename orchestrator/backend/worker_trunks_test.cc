// SPDX-License-Identifier: Apache-2.0
// What a dispatcher pins at its workers, over a transport that the test plays.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "orchestrator/backend/backend_testing.h"
#include "orchestrator/backend/worker_dispatcher.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;
using ::conclave::testing::IsOk;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kSecond = 1'000'000'000;

// Answered as soon as it begins, or when the test says so.
class ShortCall final : public WorkerCall {
 public:
  ShortCall(Start start, bool wait) : start_(std::move(start)), wait_(wait) {}
  void Begin() override {
    if (!wait_) Finish();
  }
  void Finish() {
    WorkerCallEnd end;
    end.outcome.text = "answer";
    start_.done(std::move(end));
  }
  void CancelOnWorker() override {}
  void Abandon() override {}
  bool answered() const override { return true; }
  int64_t messages() const override { return 1; }

 private:
  Start start_;
  const bool wait_;
};

// Played on one thread.
class PlayedTransport final : public WorkerTransport {
 public:
  std::shared_ptr<WorkerCall> MakeCall(int32_t worker, WorkerCall::Start start) override {
    calls_at.push_back(worker);
    last_call = std::make_shared<ShortCall>(std::move(start), calls_wait);
    return last_call;
  }
  void GetModel(int32_t /*worker*/,
                std::function<void(const absl::Status&, const pb::GetModelResponse&)> done) override {
    pb::GetModelResponse response;
    response.set_instance_id(instance);
    response.mutable_model()->set_has_chat_template(true);
    done(alive ? absl::OkStatus() : Unavailable("gone"), response);
  }
  void GetLoad(int32_t /*worker*/, std::function<void(const absl::Status&, const pb::GetLoadResponse&)> done) override {
    done(alive ? absl::OkStatus() : Unavailable("gone"), {});
  }
  void CancelRequests(int32_t /*worker*/, const std::vector<std::string>& /*request_ids*/,
                      std::function<void(const absl::Status&)> done) override {
    done(absl::OkStatus());
  }
  void EndAsking() override {}
  void PinPrefix(int32_t /*worker*/, pb::PinPrefixRequest request, Pinned done) override {
    pins.push_back(std::move(request));
    if (held_back) return waiting.push_back(std::move(done));
    Answer(done);
  }
  void Answer(const Pinned& done) {
    pb::PinPrefixResponse response;
    response.set_prefix_id(instance + std::to_string(++pinned));
    done(pin_status, response);
  }
  void RenewPrefixes(int32_t /*worker*/, const std::vector<std::string>& prefix_ids, Renewed done) override {
    renewed.insert(renewed.end(), prefix_ids.begin(), prefix_ids.end());
    pb::RenewPrefixesResponse response;
    for (size_t i = 0; i < prefix_ids.size(); ++i) response.add_outcomes(outcome);
    done(absl::OkStatus(), response);
  }
  void ReleasePrefixes(int32_t /*worker*/, const std::vector<std::string>& prefix_ids) override {
    released.insert(released.end(), prefix_ids.begin(), prefix_ids.end());
  }

  std::string instance = "first/";
  bool alive = true, held_back = false, calls_wait = false;
  std::vector<int32_t> calls_at;  // workers
  std::shared_ptr<ShortCall> last_call;
  absl::Status pin_status;
  pb::RenewPrefixesResponse::Outcome outcome = pb::RenewPrefixesResponse::OUTCOME_RENEWED;
  int pinned = 0;
  std::vector<pb::PinPrefixRequest> pins;
  std::vector<Pinned> waiting;
  std::vector<std::string> renewed, released;
};

class WorkerTrunks : public ::testing::Test {
 protected:
  WorkerTrunks() { Connect({"w"}); }
  void Connect(const std::vector<std::string>& addresses) {
    auto transport = std::make_unique<PlayedTransport>();
    worker_ = transport.get();
    WorkerBackendOptions options;
    options.clock = &clock_;
    dispatcher_ = std::make_unique<WorkerDispatcher>(std::vector<WorkerMember>{{.name = "m", .addresses = addresses}},
                                                     addresses, options, std::move(transport));
    dispatcher_->Housekeep();
  }
  // A call that goes on from the trunk; answered whatever becomes of pins.
  void Branch() {
    CallRequest request;
    request.id = ++calls_;
    request.member = "m";
    request.prompt.emplace_back().set_role("user");
    request.prompt.back().set_content(trunk_ + std::to_string(calls_));
    CollectingSink sink;
    dispatcher_->Start(request, &sink);
    const CallOutcome outcome = sink.Await(request.id);
    EXPECT_OK(outcome.status);
    EXPECT_EQ(outcome.text, "answer");
  }
  void Pass(int64_t seconds) {
    for (int64_t i = 0; i < 4 * seconds; ++i) {
      clock_.AdvanceNs(kSecond / 4);
      dispatcher_->Housekeep();
    }
  }

  ManualClock clock_;
  PlayedTransport* worker_ = nullptr;
  std::unique_ptr<WorkerDispatcher> dispatcher_;
  const std::string trunk_ = std::string(600, 't');
  CallId calls_ = 0;
};

TEST_F(WorkerTrunks, ArePinnedOnceRenewedWhileTheyAreUsedAndLetGo) {
  for (int i = 0; i < 8; ++i) Branch();
  ASSERT_EQ(worker_->pins.size(), 1u);
  const pb::Chat& chat = worker_->pins[0].prompt().chat();
  ASSERT_EQ(chat.messages_size(), 1);
  EXPECT_EQ(chat.messages(0).content(), trunk_);
  EXPECT_FALSE(chat.generation_prompt());
  EXPECT_TRUE(chat.has_generation_prompt());
  Pass(21);
  EXPECT_THAT(worker_->renewed, ElementsAre("first/1", "first/1", "first/1", "first/1"));
  EXPECT_THAT(worker_->released, IsEmpty());
  Branch();
  Pass(59);
  EXPECT_THAT(worker_->released, IsEmpty());
  Pass(1);
  EXPECT_THAT(worker_->released, ElementsAre("first/1"));
  EXPECT_EQ(worker_->pins.size(), 1u);
}

TEST_F(WorkerTrunks, OneWhoseLeaseWasLostIsPinnedAnew) {
  for (int i = 0; i < 2; ++i) Branch();
  worker_->outcome = pb::RenewPrefixesResponse::OUTCOME_NOT_PINNED;
  Pass(5);
  EXPECT_THAT(worker_->renewed, ElementsAre("first/1"));
  Branch();
  EXPECT_EQ(worker_->pins.size(), 2u);
  EXPECT_THAT(worker_->released, IsEmpty());
}

TEST_F(WorkerTrunks, AWorkerThatPinsNothingIsUsedAsBefore) {
  worker_->pin_status = Unimplemented("an older worker");
  for (int i = 0; i < 8; ++i) Branch();
  EXPECT_EQ(worker_->pins.size(), 1u);
  Pass(100);
  for (int i = 0; i < 8; ++i) Branch();
  EXPECT_EQ(worker_->pins.size(), 1u);
  EXPECT_THAT(worker_->renewed, IsEmpty());
}

TEST_F(WorkerTrunks, OfALostWorkerAreForgottenAndOfANewProcessPinnedAnew) {
  for (int i = 0; i < 2; ++i) Branch();
  worker_->alive = false;
  Pass(16);  // its lease is over
  const size_t renewed = worker_->renewed.size();
  Pass(20);
  EXPECT_EQ(worker_->renewed.size(), renewed);
  worker_->alive = true;
  worker_->instance = "second/";
  Pass(1);
  for (int i = 0; i < 2; ++i) Branch();
  EXPECT_EQ(worker_->pins.size(), 2u);
  Pass(5);
  EXPECT_EQ(worker_->renewed.back(), "second/2");
  EXPECT_THAT(worker_->released, IsEmpty()) << "the old process took its pins with it";
}

TEST_F(WorkerTrunks, ACallGoesWhereItsPrefixIsWarmUnlessThatHasMoreToDo) {
  Connect({"v", "w"});
  CollectingSink sink;
  const auto busy = [&](CallId id) {
    CallRequest other;
    other.id = id;
    other.member = "m";
    worker_->calls_wait = true;
    dispatcher_->Start(other, &sink);
    worker_->calls_wait = false;
    return worker_->last_call;
  };
  const std::shared_ptr<ShortCall> at_first = busy(100);
  Branch();  // to the other one
  at_first->Finish();
  Branch();
  EXPECT_THAT(worker_->calls_at, ElementsAre(0, 1, 1));
  const std::shared_ptr<ShortCall> again_at_first = busy(101), at_second = busy(102);
  again_at_first->Finish();
  Branch();
  EXPECT_THAT(worker_->calls_at, ElementsAre(0, 1, 1, 0, 1, 0));
  at_second->Finish();
  for (const CallId id : {100u, 101u, 102u}) EXPECT_OK(sink.Await(id).status);
}

TEST_F(WorkerTrunks, AreReleasedAtTheEndThoseThatComeLateToo) {
  for (int i = 0; i < 2; ++i) Branch();
  worker_->held_back = true;
  worker_->instance = "late/";
  CallRequest other;
  for (int i = 0; i < 2; ++i) {
    other.id = ++calls_;
    other.member = "m";
    other.prompt.resize(1);
    other.prompt[0].set_role("user");
    other.prompt[0].set_content(std::string(700, 'o'));
    CollectingSink sink;
    dispatcher_->Start(other, &sink);
    EXPECT_OK(sink.Await(other.id).status);
  }
  ASSERT_EQ(worker_->waiting.size(), 1u);
  dispatcher_->Stop();
  EXPECT_THAT(worker_->released, ElementsAre("first/1"));
  worker_->Answer(worker_->waiting[0]);
  EXPECT_THAT(worker_->released, ElementsAre("first/1", "late/2"));
}

}  // namespace
}  // namespace conclave::orchestrator
