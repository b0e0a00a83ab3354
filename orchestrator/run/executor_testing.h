// SPDX-License-Identifier: Apache-2.0
// What the executor's tests share: a graph of two rounds and a vote, members that a test plays, observers that wait.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/check.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/backend/fake_backend.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/run/stored_run.h"
#include "orchestrator/store/memory_store.h"
#include "orchestrator/store/reading_store.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {

namespace pb = ::conclave::deliberation::v1;

// Answers may be put off until Advance; one hour is for ever in a test.
inline constexpr int64_t kNever = int64_t{3600} * 1'000'000'000;

inline std::shared_ptr<const CompiledGraph> Graph(const std::string& budget = "") {
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
inline constexpr int kCalls = 3 * 2 + 3;  // of one run: three members, two samples, then one each

inline const std::vector<std::string>& Members() {
  static const std::vector<std::string> members = {"m/a", "m/b", "m/c"};
  return members;
}

inline NewRun MakeRun(const std::string& question, const std::string& request_id = "", const std::string& budget = "") {
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

inline absl::StatusOr<StartedRun> StartAndWait(Executor* executor, NewRun run, std::shared_ptr<Recorder> recorder) {
  Answer<StartedRun> answer;
  executor->StartRun(std::move(run), std::move(recorder), answer.Taker());
  return answer.Await();
}

inline absl::StatusOr<pb::RunState> CancelAndWait(Executor* executor, const std::string& run_id) {
  Answer<pb::RunState> answer;
  executor->CancelRun(run_id, answer.Taker());
  return answer.Await();
}

inline absl::StatusOr<pb::Run> GetAndWait(Executor* executor, const std::string& run_id) {
  Answer<pb::Run> answer;
  executor->GetRun(run_id, answer.Taker());
  return answer.Await();
}

// Whatever the store: numbers from 1 without a gap, one start, one end, every call answered once.
inline void ExpectWhole(const std::vector<pb::Event>& events) {
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

// A store that keeps every write until the test lets it go.
class HoldingStore final : public ReadingStore {
 public:
  using ReadingStore::ReadingStore;
  void Write(std::vector<WriteOp> batch, WriteDone done) override {
    MutexLock lock(&mutex_);
    held_.push_back({std::move(batch), std::move(done)});
    changed_.SignalAll();
  }
  void ReleaseOne() {
    Held next = TakeOne();
    inner()->Write(std::move(next.first), std::move(next.second));
  }
  // There is no room for the next one.
  void RefuseOne() {
    Held next = TakeOne();
    next.second({.status = ResourceExhausted("STORE_FULL: no room"), .batch = std::move(next.first)});
  }
  void AwaitHeld() {
    MutexLock lock(&mutex_);
    while (held_.empty()) changed_.Wait(&mutex_);
  }

 private:
  using Held = std::pair<std::vector<WriteOp>, WriteDone>;
  Held TakeOne() {
    MutexLock lock(&mutex_);
    while (held_.empty()) changed_.Wait(&mutex_);
    Held next = std::move(held_.front());
    held_.erase(held_.begin());
    return next;
  }

  Mutex mutex_;
  CondVar changed_;
  std::vector<Held> held_ ABSL_GUARDED_BY(mutex_);
};

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

}  // namespace conclave::orchestrator
