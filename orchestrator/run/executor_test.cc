// SPDX-License-Identifier: Apache-2.0
// LONG FILE: many small stories told over the same store, backend and clock.
#include "orchestrator/run/executor.h"

#include <atomic>

#include "orchestrator/run/executor_testing.h"
#include "orchestrator/store/sqlite_store.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

TEST_F(ExecutorTest, ARunIsSeenFromItsFirstEventToItsLast) {
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store_.get(), &backend);
  auto recorder = std::make_shared<Recorder>();
  const auto started = StartAndWait(executor.get(), MakeRun("6 x 7?"), recorder);
  ASSERT_OK(started);
  EXPECT_FALSE(started->existing);
  ASSERT_OK(recorder->Await());
  const std::vector<pb::Event> events = recorder->events();
  ExpectWhole(events);
  EXPECT_EQ(events.back().run_finished().answer(), "42");
  EXPECT_EQ(events.back().run_finished().ledger().calls(), kCalls);
  EXPECT_EQ(backend.started().size(), static_cast<size_t>(kCalls));

  // The store has the same, and a later watcher sees the same.
  const auto stored = executor->ReadEvents(started->run_id, 0, 1000);
  ASSERT_OK(stored);
  ASSERT_EQ(stored->size(), events.size());
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ((*stored)[i].SerializeAsString(), events[i].SerializeAsString());
  }
  auto later = std::make_shared<Recorder>();
  executor->Watch(started->run_id, 3, false, later);
  ASSERT_OK(later->Await());
  ASSERT_EQ(later->events().size(), events.size() - 3);
  EXPECT_EQ(later->events()[0].sequence_number(), 4);
  const auto run = GetAndWait(executor.get(), started->run_id);
  ASSERT_OK(run);
  EXPECT_EQ(run->state(), pb::RUN_STATE_SUCCEEDED);
  EXPECT_EQ(run->answer(), "42");
  EXPECT_EQ(run->last_sequence_number(), static_cast<int64_t>(events.size()));
  EXPECT_EQ(run->ledger().calls(), kCalls);
}

TEST_F(ExecutorTest, NothingIsDispatchedOrSeenBeforeItIsDurable) {
  HoldingStore store(store_.get());
  FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
  auto executor = Start(&store, &backend);
  auto recorder = std::make_shared<Recorder>();
  Answer<StartedRun> started;
  executor->StartRun(MakeRun("q"), recorder, started.Taker());
  store.ReleaseOne();  // the run itself
  ASSERT_OK(started.Await());
  store.AwaitHeld();  // its first events are with the store
  EXPECT_TRUE(recorder->events().empty());
  EXPECT_TRUE(backend.started().empty());
  store.ReleaseOne();
  backend.AwaitStarted(6);
  EXPECT_GE(recorder->events().size(), 8u);  // run, node, six calls
}

TEST_F(ExecutorTest, ARequestIdBeginsOneRun) {
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store_.get(), &backend);
  auto recorder = std::make_shared<Recorder>();
  const auto first = StartAndWait(executor.get(), MakeRun("q", "id-1"), recorder);
  ASSERT_OK(first);
  ASSERT_OK(recorder->Await());
  const auto again = StartAndWait(executor.get(), MakeRun("q", "id-1"), nullptr);
  ASSERT_OK(again);
  EXPECT_TRUE(again->existing);
  EXPECT_EQ(again->run_id, first->run_id);
  EXPECT_THAT(StartAndWait(executor.get(), MakeRun("another question", "id-1"), nullptr),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("REQUEST_ID_REUSED")));
  EXPECT_EQ(executor->FindRequest("id-1")->run_id, first->run_id);
  EXPECT_EQ(backend.started().size(), static_cast<size_t>(kCalls));
}

TEST_F(ExecutorTest, ACancelledRunEndsItsCallsAndSaysSo) {
  FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
  auto executor = Start(store_.get(), &backend);
  auto recorder = std::make_shared<Recorder>();
  const auto started = StartAndWait(executor.get(), MakeRun("q"), recorder);
  ASSERT_OK(started);
  backend.AwaitStarted(6);
  ASSERT_OK(CancelAndWait(executor.get(), started->run_id));
  ASSERT_OK(recorder->Await());
  ExpectWhole(recorder->events());
  EXPECT_EQ(recorder->events().back().run_finished().state(), pb::RUN_STATE_CANCELLED);
  EXPECT_EQ(backend.outstanding(), 0);
  EXPECT_EQ(backend.cancelled(), 6);
  // What the cancelled calls used is charged.
  EXPECT_EQ(recorder->events().back().run_finished().ledger().prompt_tokens(), 60);
  EXPECT_EQ(*CancelAndWait(executor.get(), started->run_id), pb::RUN_STATE_CANCELLED);  // changes nothing
  EXPECT_THAT(CancelAndWait(executor.get(), "runs/absent"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(GetAndWait(executor.get(), "runs/absent"), StatusIs(absl::StatusCode::kNotFound));
}

class SharedClock final : public Clock {
 public:
  int64_t NowNs() const override { return now_ns_; }
  int64_t UnixNs() const override { return now_ns_; }
  std::atomic<int64_t> now_ns_ = 1'000'000'000;
};

TEST_F(ExecutorTest, TheWallTimeOfABudgetEndsTheRun) {
  FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
  SharedClock clock;
  auto executor = Start(store_.get(), &backend, &clock);
  auto recorder = std::make_shared<Recorder>();
  const auto started = StartAndWait(executor.get(), MakeRun("q", "", "budget { wall_time { seconds: 60 } }"), recorder);
  ASSERT_OK(started);
  backend.AwaitStarted(6);
  clock.now_ns_ += int64_t{61} * 1'000'000'000;
  executor->Poke();
  ASSERT_OK(recorder->Await());
  ExpectWhole(recorder->events());
  EXPECT_EQ(recorder->events().back().run_finished().state(), pb::RUN_STATE_FAILED);
  EXPECT_EQ(recorder->events().back().run_finished().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
}

TEST_F(ExecutorTest, TimeWithoutAnOrchestratorIsNoPartOfARunsWallTime) {
  SharedClock clock;
  std::string run_id;
  {
    FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
    auto executor = Start(store_.get(), &backend, &clock);
    const auto started = StartAndWait(executor.get(), MakeRun("q", "", "budget { wall_time { seconds: 60 } }"),
                                      std::make_shared<Recorder>());
    ASSERT_OK(started);
    run_id = started->run_id;
    backend.AwaitStarted(6);
  }
  clock.now_ns_ += int64_t{3600} * 1'000'000'000;
  FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1"); });
  auto executor = Start(store_.get(), &backend, &clock);
  auto recorder = std::make_shared<Recorder>();
  executor->Watch(run_id, 0, false, recorder);
  executor->Poke();
  ASSERT_OK(recorder->Await());
  EXPECT_EQ(recorder->events().back().run_finished().state(), pb::RUN_STATE_SUCCEEDED);
}

TEST_F(ExecutorTest, LostCallsAreTriedAgainAndThenRecordedAsHoles) {
  std::atomic<int> refusals = 0;
  FakeBackend backend(Members(), [&](const CallRequest& request) -> FakeAnswer {
    if (request.member == "m/b" && refusals++ < 1) return Fails(Unavailable("worker gone"), /*retryable=*/true);
    if (request.member == "m/c") return Fails(InvalidArgument("no"), /*retryable=*/false);
    return Says("#### 5");
  });
  auto executor = Start(store_.get(), &backend);
  auto recorder = std::make_shared<Recorder>();
  ASSERT_OK(StartAndWait(executor.get(), MakeRun("q"), recorder));
  ASSERT_OK(recorder->Await());
  ExpectWhole(recorder->events());
  const pb::RunFinished end = recorder->events().back().run_finished();
  EXPECT_EQ(end.state(), pb::RUN_STATE_SUCCEEDED);
  EXPECT_EQ(end.answer(), "5");
  EXPECT_EQ(end.hole_count(), 3);  // m/c: two samples, then one
}

TEST_F(ExecutorTest, TokensReachOnlyThoseWhoAskedForThem) {
  FakeBackend backend(Members(), [](const CallRequest&) {
    FakeAnswer answer = Says("#### 3");
    answer.deltas = {"####", " 3"};
    return answer;
  });
  auto executor = Start(store_.get(), &backend);
  auto recorder = std::make_shared<Recorder>();
  NewRun run = MakeRun("q");
  run.request.set_stream_tokens(true);
  const auto started = StartAndWait(executor.get(), std::move(run), recorder);
  ASSERT_OK(started);
  ASSERT_OK(recorder->Await());
  std::string text;
  int64_t last = 0;
  for (const pb::Event& event : recorder->events()) {
    if (event.has_token_delta()) {
      EXPECT_EQ(event.sequence_number(), 0);
      text += event.token_delta().text();
    } else {
      EXPECT_EQ(event.sequence_number(), ++last);
    }
  }
  EXPECT_EQ(text.size(), 6u * kCalls);
}

TEST_F(ExecutorTest, RunsBeyondTheLimitAreRefused) {
  FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
  auto executor = Executor::Start({.store = store_.get(), .backend = &backend, .active_runs_max = 2});
  ASSERT_OK(executor);
  ASSERT_OK(StartAndWait(executor->get(), MakeRun("a"), nullptr));
  ASSERT_OK(StartAndWait(executor->get(), MakeRun("b"), nullptr));
  EXPECT_THAT(StartAndWait(executor->get(), MakeRun("c"), nullptr),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("OVERLOADED")));
}

TEST_F(ExecutorTest, AfterStopEverythingIsAnswered) {
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store_.get(), &backend);
  executor->Stop();
  executor->Stop();
  EXPECT_THAT(StartAndWait(executor.get(), MakeRun("q"), nullptr), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(CancelAndWait(executor.get(), "r"), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(GetAndWait(executor.get(), "r"), StatusIs(absl::StatusCode::kUnavailable));
  auto recorder = std::make_shared<Recorder>();
  executor->Watch("r", 0, false, recorder);
  EXPECT_THAT(recorder->Await(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(ExecutorTest, ManyRunsSideBySideInAFile) {
  conclave::testing::TempDir dir;
  auto store = OpenSqliteStore({.path = dir.Path("s.sqlite")});
  ASSERT_OK(store);
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store->get(), &backend);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int i = 0; i < 50; ++i) {
    recorders.push_back(std::make_shared<Recorder>());
    executor->StartRun(MakeRun("question " + std::to_string(i)), recorders.back(),
                       [](const auto& started) { CONCLAVE_CHECK(started.ok()); });
  }
  for (const auto& recorder : recorders) {
    ASSERT_OK(recorder->Await());
    ExpectWhole(recorder->events());
  }
  EXPECT_EQ(backend.started().size(), 50u * kCalls);
}

}  // namespace
}  // namespace conclave::orchestrator
