// SPDX-License-Identifier: Apache-2.0
// Which call runs where, what is tried again, what is given up: all of a WorkerBackend but its connections and its
// thread. A simulation drives the same code over a transport of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "common/mutex.h"
#include "conclave/inference/v1/inference.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/backend/breaker.h"
#include "orchestrator/backend/progress_watch.h"
#include "orchestrator/backend/trunk_table.h"
#include "orchestrator/backend/worker_backend.h"
#include "orchestrator/backend/worker_call.h"
#include "orchestrator/backend/worker_leases.h"
#include "orchestrator/backend/worker_pool.h"
#include "orchestrator/backend/worker_transport.h"

namespace conclave::orchestrator {

// Thread-safe. Time passes for it only in Housekeep.
class WorkerDispatcher final : public Backend {
 public:
  // `addresses`: of the transport's workers, each once; every member names one of them at least, and no other.
  WorkerDispatcher(std::vector<WorkerMember> members, std::vector<std::string> addresses,
                   const WorkerBackendOptions& options, std::unique_ptr<WorkerTransport> transport);
  // Stop, then waits for what the transport still owes.
  ~WorkerDispatcher() override;

  void Start(CallRequest request, CallSink* sink) override;
  void Cancel(CallId id) override;
  std::vector<MemberFacts> Describe() const override;

  // Looks at the clock: who is to be asked, what has waited too long, what may begin. To be called every 50 ms or so.
  void Housekeep();
  // Addresses that have not answered yet; "" when all have.
  std::string Missing() const;
  // Returns when something has changed, or after so long. False: it is stopped.
  bool WaitForChange(int64_t timeout_ns);
  // Ends all calls. Twice is once.
  void Stop();

 private:
  struct Worker {
    std::string address;
    inference::v1::GetModelResponse described;  // empty until it has answered once
    bool asking = false;
    int64_t ask_after_ns = 0;
    bool stalled = false;  // down until its engine has made a step, or has nothing left
    // How often it went down with work of ours, and nothing came of any call between: then it is left alone, whatever
    // it says of itself, until one call tries it.
    Breaker breaker;
    bool trial = false;  // up for that one
  };
  struct Record {
    CallRequest request;
    CallSink* sink = nullptr;
    std::vector<int32_t> candidates;
    std::shared_ptr<WorkerCall> call;  // null: waiting
    int32_t attempts = 0;
    bool delayed = false;   // not in the pool until resume_ns
    int64_t resume_ns = 0;  // when delayed
    int64_t waiting_since_ns = 0;
    int64_t abandon_ns = 0;  // when cancelled on the worker
    bool cancelled = false;
    bool stalled = false;    // abandoned because nothing came
    bool fenced = false;     // abandoned because its worker's lease ran out
    bool abandoned = false;  // `call` is about to end
    std::string request_id;  // of `call`
    // Set under the lock, run after it.
    CallOutcome end;
  };
  // What is to be done after the lock is let go: transport and sinks are never called under it.
  struct Todo {
    std::vector<std::shared_ptr<WorkerCall>> begin, cancel, abandon;
    std::vector<Record> ended;
    std::vector<int32_t> ask;
    std::vector<int32_t> ask_load;
    std::vector<std::pair<int32_t, std::vector<std::string>>> tell;  // what was given up there
    std::vector<std::pair<TrunkTable::Wanted, inference::v1::PinPrefixRequest>> pin;
    std::vector<TrunkTable::Due> trunks;
  };

  int64_t Now() const { return options_.clock->NowNs(); }
  void Do(Todo todo);
  void Tell(int32_t worker, std::vector<std::string> given_up);
  bool LeaveTo(std::optional<CallId> late, std::vector<int32_t>* candidates) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Pump(Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<WorkerCall> MakeCall(CallId id, Record* record, int32_t worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(CallId id, absl::Status status, bool retryable, Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnCallEnd(CallId id, int32_t worker, WorkerCallEnd end);
  void OnDescribed(int32_t worker, const absl::Status& status, const inference::v1::GetModelResponse& response);
  void OnLoad(int32_t worker, const absl::Status& status, const inference::v1::GetLoadResponse& response);
  void AskLoad(int32_t worker, Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    todo->ask_load.push_back(worker);
    ++asking_;
  }
  void Abandon(CallId id, Record* record, int64_t now_ns, Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Trunks: what calls begin with is pinned at their worker (worker_dispatcher_trunks.cc).
  void NoteTrunk(int32_t worker, const CallRequest& request, Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DoTrunks(const Todo& todo);
  void OnPinned(int32_t worker, uint64_t ticket, const absl::Status& status,
                const inference::v1::PinPrefixResponse& response);
  void OnRenewed(int32_t worker, const std::vector<std::string>& prefix_ids, const absl::Status& status,
                 const inference::v1::RenewPrefixesResponse& response);
  void RenewTrunks(int64_t now_ns, Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FenceExpired(int64_t now_ns, Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountEnd(int32_t index, const CallOutcome& outcome, bool draining) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountFailure(int32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PutToWork(int32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string WhyNobody(const Record& record) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WhyLost(const Record& record, Worker* worker, WorkerCallEnd* end) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Watch(int64_t now_ns, Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HousekeepOnce(Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const WorkerBackendOptions options_;
  const std::vector<WorkerMember> members_;
  const std::string request_prefix_;
  std::map<std::string, std::vector<int32_t>> candidates_;  // of each member; as constructed
  const std::unique_ptr<WorkerTransport> transport_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<Worker> workers_ ABSL_GUARDED_BY(mutex_);
  WorkerPool pool_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<CallId, Record> records_ ABSL_GUARDED_BY(mutex_);
  ProgressWatch watch_ ABSL_GUARDED_BY(mutex_);
  WorkerLeases leases_ ABSL_GUARDED_BY(mutex_);
  TrunkTable trunks_ ABSL_GUARDED_BY(mutex_);
  int32_t asking_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t begun_ ABSL_GUARDED_BY(mutex_) = 0;  // WorkerCalls whose end is awaited
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace conclave::orchestrator
