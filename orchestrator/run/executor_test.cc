// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/executor.h"

#include <atomic>
#include <set>

#include "common/check.h"
#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/backend/fake_backend.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/stored_run.h"
#include "orchestrator/store/memory_store.h"
#include "orchestrator/store/sqlite_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

// Answers may be put off until Advance; one hour is for ever in a test.
constexpr int64_t kNever = int64_t{3600} * 1'000'000'000;

std::shared_ptr<const CompiledGraph> Graph(const std::string& budget = "") {
  RoleLibrary roles;
  CONCLAVE_CHECK(roles.AddText("name: \"solver\" task: \"{{ question }}\" answer {}", "solver.textproto").empty());
  auto graph = CompileGraphText(
                   "name: \"vote\" input { name: \"question\" }"
                   "node { name: \"solve\" speak { role: \"solver\" members: \"m/*\" samples: 2 } }"
                   "node { name: \"again\" speak { role: \"solver\" members: \"m/*\" sees { node: \"solve\" } } }"
                   "node { name: \"pick\" pick { of: \"again\" by: MAJORITY } }" +
                       budget,
                   "vote.textproto", roles)
                   .ToStatusOr();
  CONCLAVE_CHECK_MSG(graph.ok(), graph.status().ToString().c_str());
  return *std::move(graph);
}
constexpr int kCalls = 3 * 2 + 3;  // of one run: three members, two samples, then one each

const std::vector<std::string>& Members() {
  static const std::vector<std::string> members = {"m/a", "m/b", "m/c"};
  return members;
}

NewRun MakeRun(const std::string& question, const std::string& request_id = "", const std::string& budget = "") {
  NewRun run;
  run.graph = Graph(budget);
  for (const std::string& name : Members()) run.spec.members.push_back({name, 1, {}});
  run.spec.binding = *ResolveBinding(*run.graph, {}, Members());
  run.spec.inputs["question"] = question;
  run.spec.seed = 3;
  run.request.set_request_id(request_id);
  run.request.set_graph_name("vote");
  (*run.request.mutable_inputs())["question"] = question;
  return run;
}

// Keeps what it saw; waits for the end.
class Recorder final : public RunObserver {
 public:
  void OnEvent(const std::shared_ptr<const pb::Event>& event) override {
    MutexLock lock(&mutex_);
    CONCLAVE_CHECK_MSG(!ended_, "an event after the end");
    events_.push_back(*event);
    changed_.SignalAll();
  }
  void OnEnd(const absl::Status& status) override {
    MutexLock lock(&mutex_);
    CONCLAVE_CHECK_MSG(!ended_, "two ends");
    ended_ = true;
    status_ = status;
    changed_.SignalAll();
  }
  absl::Status Await() {
    MutexLock lock(&mutex_);
    while (!ended_) changed_.Wait(&mutex_);
    return status_;
  }
  void AwaitEvents(size_t count) {
    MutexLock lock(&mutex_);
    while (events_.size() < count) changed_.Wait(&mutex_);
  }
  std::vector<pb::Event> events() const {
    MutexLock lock(&mutex_);
    return events_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::vector<pb::Event> events_ ABSL_GUARDED_BY(mutex_);
};

template <typename T>
class Answer {
 public:
  std::function<void(absl::StatusOr<T>)> Taker() {
    return [this](absl::StatusOr<T> value) {
      MutexLock lock(&mutex_);
      value_ = std::move(value);
      changed_.SignalAll();
    };
  }
  absl::StatusOr<T> Await() {
    MutexLock lock(&mutex_);
    while (!value_.has_value()) changed_.Wait(&mutex_);
    return *value_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::optional<absl::StatusOr<T>> value_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<StartedRun> StartAndWait(Executor* executor, NewRun run, std::shared_ptr<Recorder> recorder) {
  Answer<StartedRun> answer;
  executor->StartRun(std::move(run), std::move(recorder), answer.Taker());
  return answer.Await();
}

absl::StatusOr<pb::RunState> CancelAndWait(Executor* executor, const std::string& run_id) {
  Answer<pb::RunState> answer;
  executor->CancelRun(run_id, answer.Taker());
  return answer.Await();
}

absl::StatusOr<pb::Run> GetAndWait(Executor* executor, const std::string& run_id) {
  Answer<pb::Run> answer;
  executor->GetRun(run_id, answer.Taker());
  return answer.Await();
}

// Whatever the store: numbers from 1 without a gap, one start, one end, every call answered once.
void ExpectWhole(const std::vector<pb::Event>& events) {
  std::set<std::string> started, ended;
  const auto name = [](const pb::Event& event, const pb::CallKey& key) {
    return event.node_path() + "|" + key.SerializeAsString();
  };
  for (size_t i = 0; i < events.size(); ++i) {
    const pb::Event& event = events[i];
    EXPECT_EQ(event.sequence_number(), static_cast<int64_t>(i) + 1);
    EXPECT_EQ(event.has_run_started(), i == 0);
    EXPECT_EQ(event.has_run_finished(), i + 1 == events.size());
    if (event.has_call_started()) {
      EXPECT_TRUE(started.insert(name(event, event.call_started().key())).second);
    }
    if (event.has_call_finished()) {
      EXPECT_TRUE(ended.insert(name(event, event.call_finished().key())).second);
    }
    if (event.has_call_lost()) {
      EXPECT_TRUE(ended.insert(name(event, event.call_lost().key())).second);
    }
  }
  EXPECT_EQ(started, ended);
}

class ExecutorTest : public ::testing::Test {
 protected:
  std::unique_ptr<Executor> Start(Store* store, Backend* backend, const Clock* clock = &Clock::System()) {
    auto executor = Executor::Start({.store = store, .backend = backend, .clock = clock});
    CONCLAVE_CHECK_MSG(executor.ok(), executor.status().ToString().c_str());
    return *std::move(executor);
  }
  static FakeAnswer Fixed(const CallRequest&) { return Says("I think it is #### 42"); }

  std::unique_ptr<Store> store_ = NewMemoryStore();
};

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
  // A store that keeps every write until the test lets it go.
  class HoldingStore final : public Store {
   public:
    explicit HoldingStore(Store* inner) : inner_(inner) {}
    void Write(std::vector<WriteOp> batch, WriteDone done) override {
      MutexLock lock(&mutex_);
      held_.push_back({std::move(batch), std::move(done)});
      changed_.SignalAll();
    }
    void ReleaseOne() {
      std::pair<std::vector<WriteOp>, WriteDone> next;
      {
        MutexLock lock(&mutex_);
        while (held_.empty()) changed_.Wait(&mutex_);
        next = std::move(held_.front());
        held_.erase(held_.begin());
      }
      inner_->Write(std::move(next.first), std::move(next.second));
    }
    void AwaitHeld() {
      MutexLock lock(&mutex_);
      while (held_.empty()) changed_.Wait(&mutex_);
    }
    absl::StatusOr<StoredRun> GetRun(std::string_view id) const override { return inner_->GetRun(id); }
    absl::StatusOr<std::vector<StoredRun>> ListRuns(int64_t b, int64_t c) const override {
      return inner_->ListRuns(b, c);
    }
    absl::StatusOr<std::vector<StoredRun>> UnfinishedRuns() const override { return inner_->UnfinishedRuns(); }
    absl::StatusOr<std::vector<std::string>> ReadEvents(std::string_view id, int64_t a, int64_t c,
                                                        int64_t b) const override {
      return inner_->ReadEvents(id, a, c, b);
    }
    absl::StatusOr<std::vector<StoredInput>> ReadInputs(std::string_view id) const override {
      return inner_->ReadInputs(id);
    }
    absl::StatusOr<StoredRun> FindRequest(std::string_view id) const override { return inner_->FindRequest(id); }
    absl::StatusOr<std::string> GetGraph(std::string_view r) const override { return inner_->GetGraph(r); }
    absl::Status ReadResults(const std::function<absl::Status(const StoredResult&)>& v) const override {
      return inner_->ReadResults(v);
    }
    absl::StatusOr<std::optional<std::string>> GetMeta(std::string_view k) const override { return inner_->GetMeta(k); }

   private:
    Store* inner_;
    Mutex mutex_;
    CondVar changed_;
    std::vector<std::pair<std::vector<WriteOp>, WriteDone>> held_ ABSL_GUARDED_BY(mutex_);
  };
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

TEST_F(ExecutorTest, TheWallTimeOfABudgetEndsTheRun) {
  FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
  class SharedClock final : public Clock {
   public:
    int64_t NowNs() const override { return now_ns_; }
    int64_t UnixNs() const override { return now_ns_; }
    std::atomic<int64_t> now_ns_ = 1'000'000'000;
  } clock;
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

TEST_F(ExecutorTest, WhatWasUnfinishedGoesOnWithoutRepeatingAFinishedCall) {
  const auto slow_after = [](int fast) {
    auto count = std::make_shared<std::atomic<int>>(0);
    return [count, fast](const CallRequest&) { return Says("#### 7", (*count)++ < fast ? 0 : kNever); };
  };
  std::string run_id;
  std::vector<pb::Event> before;
  {
    FakeBackend backend(Members(), slow_after(4));
    auto executor = Start(store_.get(), &backend);
    auto recorder = std::make_shared<Recorder>();
    const auto started = StartAndWait(executor.get(), MakeRun("q"), recorder);
    ASSERT_OK(started);
    run_id = started->run_id;
    recorder->AwaitEvents(2 + 6 + 4);  // four of six calls have finished
    executor->Stop();
    EXPECT_THAT(recorder->Await(), StatusIs(absl::StatusCode::kUnavailable));
    before = recorder->events();
  }
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store_.get(), &backend);
  auto recorder = std::make_shared<Recorder>();
  executor->Watch(run_id, 0, false, recorder);
  ASSERT_OK(recorder->Await());
  const std::vector<pb::Event> events = recorder->events();
  ExpectWhole(events);
  ASSERT_GT(events.size(), before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(events[i].SerializeAsString(), before[i].SerializeAsString());
  }
  EXPECT_EQ(backend.started().size(), static_cast<size_t>(kCalls - 4));
}

TEST_F(ExecutorTest, ACancellationSurvivesARestart) {
  std::string run_id;
  {
    FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
    auto executor = Start(store_.get(), &backend);
    const auto started = StartAndWait(executor.get(), MakeRun("q"), nullptr);
    ASSERT_OK(started);
    run_id = started->run_id;
    backend.AwaitStarted(6);
  }
  // As a process would leave it that died right after it acknowledged the cancellation.
  const int64_t last = store_->GetRun(run_id)->last_sequence_number;
  ASSERT_OK(WriteAndWait(store_.get(), {RecordInput{run_id, last, EncodeInput(CancelRequested{})}}).status);
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store_.get(), &backend);
  auto recorder = std::make_shared<Recorder>();
  executor->Watch(run_id, 0, false, recorder);
  ASSERT_OK(recorder->Await());
  ExpectWhole(recorder->events());
  EXPECT_EQ(recorder->events().back().run_finished().state(), pb::RUN_STATE_CANCELLED);
}

TEST_F(ExecutorTest, ARunThatDoesNotReplayFailsWithAReason) {
  std::string run_id;
  {
    FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
    auto executor = Start(store_.get(), &backend);
    run_id = StartAndWait(executor.get(), MakeRun("q"), nullptr)->run_id;
    backend.AwaitStarted(6);
  }
  pb::Event foreign;
  foreign.set_run_id(run_id);
  foreign.set_sequence_number(store_->GetRun(run_id)->last_sequence_number + 1);
  foreign.set_node_path("nowhere");
  foreign.mutable_node_started();
  ASSERT_OK(
      WriteAndWait(store_.get(), {AppendEvents{run_id, foreign.sequence_number(), {EncodeEvent(foreign)}}}).status);
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store_.get(), &backend);
  const auto run = GetAndWait(executor.get(), run_id);
  ASSERT_OK(run);
  EXPECT_EQ(run->state(), pb::RUN_STATE_FAILED);
  EXPECT_FALSE(run->message().empty());
  auto recorder = std::make_shared<Recorder>();
  executor->Watch(run_id, 0, false, recorder);
  ASSERT_OK(recorder->Await());
  EXPECT_EQ(recorder->events().back().run_finished().code(), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_TRUE(backend.started().empty());
}

TEST_F(ExecutorTest, ARunWhoseMembersAreNotHereWaitsAndCanBeCancelled) {
  std::string run_id;
  {
    FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
    auto executor = Start(store_.get(), &backend);
    run_id = StartAndWait(executor.get(), MakeRun("q"), nullptr)->run_id;
    backend.AwaitStarted(6);
  }
  FakeBackend other({"stranger"}, Fixed);
  auto executor = Start(store_.get(), &other);
  ASSERT_EQ(executor->Parked().size(), 1u);
  EXPECT_THAT(executor->Parked()[0].second, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("\"m/a\"")));
  auto recorder = std::make_shared<Recorder>();
  executor->Watch(run_id, 0, false, recorder);
  EXPECT_THAT(recorder->Await(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(*CancelAndWait(executor.get(), run_id), pb::RUN_STATE_CANCELLED);
  EXPECT_EQ(GetAndWait(executor.get(), run_id)->state(), pb::RUN_STATE_CANCELLED);
  EXPECT_TRUE(executor->Parked().empty());
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

TEST(StoredRun, ComesBackAsItWasStored) {
  RunSpec spec;
  spec.run_id = "runs/1";
  spec.inputs = {{"question", "q"}};
  spec.members.resize(2);
  spec.members[0].name = "a";
  spec.members[0].weight = 0.5;
  spec.members[0].cost.flops_per_token = 1;
  spec.members[0].cost.attention_flops_per_token_and_position = 2;
  spec.members[0].cost.weight_bytes_per_token = 3;
  spec.members[0].cost.kv_bytes_per_token = 4;
  spec.members[0].cost.characters_per_token = 5;
  spec.members[1].name = "b";
  spec.binding = {{"seat", {1, 0}}, {"other", {0}}};
  spec.seed = ~uint64_t{0};
  spec.sampling.set_temperature(0);
  spec.item_id = "item";
  spec.budgets.resize(1);
  spec.budgets[0].name = "request";
  spec.budgets[0].budget.set_calls(9);
  pb::RunRequest request;
  request.set_request_id("id");
  const auto decoded = DecodeRun("runs/1", EncodeRun(request, spec));
  ASSERT_OK(decoded);
  EXPECT_EQ(decoded->spec.binding, spec.binding);
  EXPECT_EQ(decoded->spec.inputs, spec.inputs);
  EXPECT_EQ(decoded->spec.seed, spec.seed);
  EXPECT_TRUE(decoded->spec.sampling.has_temperature());
  EXPECT_EQ(decoded->spec.item_id, "item");
  EXPECT_EQ(decoded->spec.members[0].weight, 0.5);
  EXPECT_EQ(decoded->spec.members[0].cost.kv_bytes_per_token, 4);
  EXPECT_EQ(decoded->spec.members[0].cost.characters_per_token, 5);
  EXPECT_EQ(decoded->spec.budgets[0].budget.calls(), 9);
  EXPECT_EQ(decoded->request.request_id(), "id");
  EXPECT_THAT(DecodeRun("runs/1", "\xff\xff"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("runs/1")));
}

TEST(StoredRun, EqualPayloadsHaveEqualHashes) {
  pb::RunRequest a, b;
  for (int i = 0; i < 20; ++i) {
    (*a.mutable_inputs())["k" + std::to_string(i)] = "v";
    (*b.mutable_inputs())["k" + std::to_string(19 - i)] = "v";
  }
  a.set_request_id("one");
  b.set_request_id("two");
  EXPECT_EQ(RequestHash(a), RequestHash(b));
  b.set_seed(1);
  EXPECT_NE(RequestHash(a), RequestHash(b));
}

TEST(StoredRun, AnEventThatIsNotTheOneAskedForIsDataLoss) {
  pb::Event event;
  event.set_run_id("r");
  event.set_sequence_number(2);
  event.mutable_heartbeat();
  EXPECT_OK(DecodeEvent("r", 2, EncodeEvent(event)));
  EXPECT_THAT(DecodeEvent("r", 3, EncodeEvent(event)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeEvent("q", 2, EncodeEvent(event)), StatusIs(absl::StatusCode::kDataLoss));
  event.clear_event();
  EXPECT_THAT(DecodeEvent("r", 2, EncodeEvent(event)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeEvent("r", 2, "\x80"), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace conclave::orchestrator
