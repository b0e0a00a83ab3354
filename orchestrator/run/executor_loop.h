// SPDX-License-Identifier: Apache-2.0
// What the executor's loop thread owns and does. Private to this folder; every method runs on that thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "orchestrator/run/executor.h"
#include "orchestrator/run/task_thread.h"

namespace conclave::orchestrator {

// A run in memory.
struct ActiveRun {
  std::string id;
  deliberation::v1::RunRequest request;
  std::unique_ptr<Machine> machine;
  int64_t create_unix_ns = 0;
  int64_t last_assigned = 0;   // sequence number given to the last event
  int64_t last_committed = 0;  // of the last event that is durable
  bool stream_tokens = false;
  bool cancel_requested = false;
  std::optional<int64_t> wall_deadline_ns;
  std::map<uint32_t, int64_t> timers;          // when they run out
  std::unordered_map<uint32_t, CallId> calls;  // dispatched and not answered
  struct Observer {
    std::shared_ptr<RunObserver> observer;
    int64_t after = 0;
    bool tokens = false;
  };
  std::vector<Observer> observers;
};

class ExecutorLoop final : public CallSink {
 public:
  // `queue` runs on the loop's thread.
  ExecutorLoop(const ExecutorOptions& options, TaskQueue* queue) : options_(options), queue_(queue) {}

  // ---- CallSink, from any thread
  void OnDelta(CallId id, CallDelta delta) override;
  void OnDone(CallId id, CallOutcome outcome) override;

  // ---- Loop
  // Makes the run durable, then begins it.
  void Create(std::unique_ptr<ActiveRun> run, CreateRun record, std::function<void(absl::StatusOr<StartedRun>)> done);
  // Goes on with a resumed run.
  void Adopt(std::unique_ptr<ActiveRun> run, Output rest);
  // False: not active, and `done` is untouched.
  bool Cancel(const std::string& run_id, std::function<void(absl::StatusOr<deliberation::v1::RunState>)>* done);
  // Writes the end of a stored run that nobody runs; `done` once that is durable, or cannot be.
  void EndStored(std::vector<WriteOp> end, std::function<void(absl::Status)> done);
  std::optional<deliberation::v1::Run> Describe(const std::string& run_id) const;
  Executor::Attached Attach(const std::string& run_id, ActiveRun::Observer observer);
  void Detach(const RunObserver* observer);
  // Timers.
  void Tick();
  // Hands what the last tasks produced to the store. Called after each round of tasks.
  void Flush();
  // Nanoseconds until Tick has something to do; -1: nothing known.
  int64_t NextWakeNs() const;
  void BeginStop();
  // After BeginStop: nothing is owed any more.
  bool Idle() const { return calls_.empty() && (in_flight_.empty() || dead_) && creating_ == 0; }
  // The last thing: observers learn that their run does not go on here.
  void EndObservers();

  int32_t active_runs() const { return static_cast<int32_t>(runs_.size()) + creating_; }
  int32_t calls_in_flight() const { return static_cast<int32_t>(calls_.size()); }

 private:
  struct RunningCall {
    std::string run_id;
    uint32_t call = 0;
    int64_t start_ns = 0;
    std::string node_path;  // of calls that stream
    deliberation::v1::CallKey key;
  };
  // What follows from a step once its events are durable.
  struct Effects {
    std::string run_id;
    std::vector<std::shared_ptr<const deliberation::v1::Event>> events;
    std::vector<CallSpec> calls;
    std::vector<uint32_t> cancel;
    bool finished = false;
  };
  // One write: the steps of one round, of all runs.
  struct Batch {
    std::vector<WriteOp> ops;
    std::vector<Effects> effects;
    std::vector<std::function<void()>> acknowledge;
    bool empty() const { return ops.empty() && effects.empty() && acknowledge.empty(); }
  };

  int64_t Now() const { return options_.clock->NowNs(); }
  ActiveRun* Find(const std::string& run_id);
  void Apply(ActiveRun* run, Input input);
  void Take(ActiveRun* run, Output output);
  void RecordAndApply(ActiveRun* run, StoredKind input);
  void TickTimers(ActiveRun* run, int64_t now_ns);
  void Submit(int64_t ticket, Batch batch);
  void OnWritten(int64_t ticket, WriteResult result);
  void Fail(const absl::Status& status);
  void Run(Effects effects);
  void Dispatch(ActiveRun* run, CallSpec call);
  void HandleDone(CallId id, CallOutcome outcome);
  void HandleDelta(CallId id, CallDelta delta);
  deliberation::v1::Run Summary(const ActiveRun& run) const;

  const ExecutorOptions options_;
  TaskQueue* const queue_;
  std::unordered_map<std::string, std::unique_ptr<ActiveRun>> runs_;
  std::unordered_map<CallId, RunningCall> calls_;
  CallId next_call_ = 1;
  int32_t creating_ = 0;
  bool stopping_ = false;
  bool dead_ = false;

  Batch current_;
  int64_t next_ticket_ = 1;
  std::map<int64_t, Batch> in_flight_;  // ops are with the store
  std::map<int64_t, Batch> stalled_;    // not written, in order; retried together
  int64_t retry_ns_ = 0;
};

}  // namespace conclave::orchestrator
