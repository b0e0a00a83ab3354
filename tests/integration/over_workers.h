// SPDX-License-Identifier: Apache-2.0
// What tests of orchestrators over real workers share: one run of many samples on a small random model, and who follows
// it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/check.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/backend/worker_backend.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/store/memory_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"
#include "tests/testing/worker_child.h"

namespace conclave::orchestrator {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::IsOk;
using ::conclave::testing::WorkerChild;

inline constexpr int64_t kNsPerMs = 1'000'000;
inline constexpr int kSamples = 16;

class Follower final : public RunObserver {
 public:
  void OnEvent(const std::shared_ptr<const pb::Event>& event) override {
    MutexLock lock(&mutex_);
    if (event->has_token_delta()) {
      speaking_[event->token_delta().key().member()].insert(event->token_delta().key().sample());
    }
    if (event->has_call_finished()) {
      speaking_[event->call_finished().key().member()].erase(event->call_finished().key().sample());
    }
    if (event->sequence_number() > 0) events_.push_back(*event);
    changed_.SignalAll();
  }
  void OnEnd(const absl::Status& status) override {
    MutexLock lock(&mutex_);
    end_ = status;
    changed_.SignalAll();
  }
  // Until a sample of it has begun and not ended.
  void AwaitWords(const std::string& member) {
    MutexLock lock(&mutex_);
    while (speaking_[member].empty() && !end_.has_value()) changed_.Wait(&mutex_);
  }
  absl::Status AwaitEnd() {
    MutexLock lock(&mutex_);
    while (!end_.has_value()) changed_.Wait(&mutex_);
    return *end_;
  }
  std::vector<pb::Event> events() const {
    MutexLock lock(&mutex_);
    return events_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, std::set<int32_t>> speaking_ ABSL_GUARDED_BY(mutex_);  // samples by member
  std::vector<pb::Event> events_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

inline NewRun MakeRun(const std::vector<std::string>& members, int quorum = 0) {
  RoleLibrary roles;
  CONCLAVE_CHECK(roles
                     .AddText("name: \"talker\" task: \"{{ question }}\" text {} sampling { max_output_tokens: 400 }",
                              "talker.textproto")
                     .empty());
  auto graph =
      CompileGraphText(
          fmt::format("name: \"talk\" input {{ name: \"question\" }}"
                      "node {{ name: \"talk\" speak {{ role: \"talker\" members: \"*\" samples: {} quorum: {} }} }}"
                      "node {{ name: \"verdict\" pick {{ of: \"talk\" by: FIRST }} }}",
                      kSamples, quorum),
          "talk.textproto", roles)
          .ToStatusOr();
  CONCLAVE_CHECK_MSG(graph.ok(), graph.status().ToString().c_str());
  NewRun run;
  run.graph = *std::move(graph);
  for (const std::string& name : members) run.spec.members.push_back({name, 1, {}});
  run.spec.binding = *ResolveBinding(*run.graph, {}, members);
  run.spec.inputs["question"] = "the thing";
  run.request.set_stream_tokens(true);
  return run;
}

class OrchestratorFailures : public ::testing::Test {
 protected:
  // Every text is long: whoever acts on the first words of a run finds it in the middle.
  void SetUp() override {
    testing::TinyModel({.context_tokens = 512, .tied_head = false, .head_scale = 4, .never_ends = true})
        .Write(dir_.Path("tiny.gguf"));
  }
  void Connect(std::vector<WorkerMember> members, WorkerBackendOptions options = {}) {
    auto backend = ConnectWorkers(std::move(members), options, 20'000 * kNsPerMs);
    CONCLAVE_CHECK_MSG(backend.ok(), backend.status().ToString().c_str());
    backend_ = *std::move(backend);
    executor_ = *Executor::Start({.store = store_.get(), .backend = backend_.get()});
  }
  std::string StartRun(NewRun run, std::shared_ptr<Follower> follower) {
    Mutex mutex;
    CondVar changed;
    std::string run_id;
    executor_->StartRun(std::move(run), std::move(follower), [&](const absl::StatusOr<StartedRun>& started) {
      CONCLAVE_CHECK_MSG(started.ok(), started.status().ToString().c_str());
      MutexLock lock(&mutex);
      run_id = started->run_id;
      changed.SignalAll();
    });
    MutexLock lock(&mutex);
    while (run_id.empty()) changed.Wait(&mutex);
    return run_id;
  }
  void TearDown() override {
    executor_.reset();
    backend_.reset();
  }

  testing::TempDir dir_;
  std::unique_ptr<Store> store_ = NewMemoryStore();
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace conclave::orchestrator
