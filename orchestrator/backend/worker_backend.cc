// SPDX-License-Identifier: Apache-2.0
// LONG FILE: one mutex guards calls, queue and workers, so the class that holds it is read as a whole.
#include "orchestrator/backend/worker_backend.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <sys/random.h>

#include <algorithm>
#include <map>
#include <thread>
#include <unordered_map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "common/check.h"
#include "common/mutex.h"
#include "common/status.h"
#include "conclave/inference/v1/inference.grpc.pb.h"
#include "orchestrator/backend/callback_queue.h"
#include "orchestrator/backend/progress_watch.h"
#include "orchestrator/backend/worker_call.h"
#include "orchestrator/backend/worker_pool.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kHousekeepingNs = 50 * kNsPerMs;
constexpr int64_t kDescribeTimeoutNs = 2'000 * kNsPerMs;
constexpr int64_t kDescribeAgainNs = 200 * kNsPerMs;    // a lost worker is asked again after this time
constexpr int64_t kDrainingAgainNs = 2'000 * kNsPerMs;  // a draining one would only refuse again
constexpr int32_t kBusyRetriesMax = 100;                // of one call at full workers

// Each process's request ids begin with a number of its own, so that two orchestrators never share one.
std::string MakeRequestPrefix() {
  uint64_t random = 0;
  CONCLAVE_CHECK(getrandom(&random, sizeof(random), 0) == static_cast<ssize_t>(sizeof(random)));
  return fmt::format("{:016x}-", random);
}

class WorkerBackend final : public Backend {
 public:
  WorkerBackend(std::vector<WorkerMember> members, const WorkerBackendOptions& options)
      : options_(options),
        members_(std::move(members)),
        request_prefix_(MakeRequestPrefix()),
        watch_(options.stall_ns) {}

  absl::Status Connect(int64_t timeout_ns);
  ~WorkerBackend() override;

  void Start(CallRequest request, CallSink* sink) override;
  void Cancel(CallId id) override;
  std::vector<MemberFacts> Describe() const override;

 private:
  struct Worker {
    std::string address;
    std::unique_ptr<pb::InferenceService::Stub> stub;
    pb::GetModelResponse described;  // empty until it has answered once
    bool asking = false;
    int64_t ask_after_ns = 0;
    bool stalled = false;  // down until its engine has made a step, or has nothing left
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
    bool stalled = false;  // abandoned because nothing came
    // Set under the lock, run after it.
    CallOutcome end;
  };
  // What is to be done after the lock is let go: gRPC and sinks are never called under it.
  struct Todo {
    std::vector<std::shared_ptr<WorkerCall>> begin, cancel, abandon;
    std::vector<Record> ended;
    std::vector<int32_t> ask;
    std::vector<int32_t> ask_load;
  };

  int64_t Now() const { return options_.clock->NowNs(); }
  void Do(Todo todo);
  void Pump(Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<WorkerCall> MakeCall(CallId id, Record* record, int32_t worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(CallId id, absl::Status status, bool retryable, Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnCallEnd(CallId id, int32_t worker, WorkerCallEnd end);
  void Ask(int32_t worker);
  void AskLoad(int32_t worker);
  void OnLoad(int32_t worker, const grpc::Status& status, const pb::GetLoadResponse& response);
  void Watch(int64_t now_ns, Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnDescribed(int32_t worker, const grpc::Status& status, const pb::GetModelResponse& response);
  void Housekeep();
  void HousekeepOnce(Todo* todo) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const WorkerBackendOptions options_;
  const std::vector<WorkerMember> members_;
  const std::string request_prefix_;
  std::map<std::string, std::vector<int32_t>> candidates_;  // of each member; written by Connect only

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<Worker> workers_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<WorkerPool> pool_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<CallId, Record> records_ ABSL_GUARDED_BY(mutex_);
  ProgressWatch watch_ ABSL_GUARDED_BY(mutex_);
  int32_t asking_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t begun_ ABSL_GUARDED_BY(mutex_) = 0;  // WorkerCalls whose end is awaited
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread housekeeper_;
};

absl::Status WorkerBackend::Connect(int64_t timeout_ns) {
  ASSIGN_OR_RETURN(const auto credentials, rpc::ChannelCredentials(options_.tls));
  std::map<std::string, int32_t> index;
  {
    MutexLock lock(&mutex_);
    for (const WorkerMember& member : members_) {
      if (member.addresses.empty()) return InvalidArgument("member \"{}\" has no worker", member.name);
      for (const std::string& address : member.addresses) {
        RETURN_IF_ERROR(rpc::ParseAddress(address).status());
        const auto [it, added] = index.emplace(address, static_cast<int32_t>(workers_.size()));
        candidates_[member.name].push_back(it->second);
        if (!added) continue;
        grpc::ChannelArguments arguments = rpc::ChannelArguments();
        arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // one connection each, never shared by accident
        workers_.push_back(
            {.address = address,
             .stub = pb::InferenceService::NewStub(grpc::CreateCustomChannel(address, credentials, arguments)),
             .described = {}});
      }
    }
    pool_ = std::make_unique<WorkerPool>(static_cast<int32_t>(workers_.size()), options_.calls_per_worker_max);
  }
  housekeeper_ = std::thread([this] { Housekeep(); });

  const int64_t until_ns = Now() + timeout_ns;
  MutexLock lock(&mutex_);
  while (true) {
    std::string missing;
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (!pool_->up(static_cast<int32_t>(i))) missing += (missing.empty() ? "" : ", ") + workers_[i].address;
    }
    if (missing.empty()) return absl::OkStatus();
    const int64_t left_ns = until_ns - Now();
    if (left_ns <= 0) {
      return Unavailable("NO_WORKER: no worker answers at {}; start it, or correct the fleet file", missing);
    }
    changed_.WaitWithTimeout(&mutex_, std::min(left_ns, kHousekeepingNs));
  }
}

WorkerBackend::~WorkerBackend() {
  std::vector<CallId> running;
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    for (const auto& [id, record] : records_) running.push_back(id);
    changed_.SignalAll();
  }
  for (const CallId id : running) Cancel(id);
  if (housekeeper_.joinable()) housekeeper_.join();
  // Calls hold the stubs and this object until they have ended.
  MutexLock lock(&mutex_);
  while (!records_.empty() || asking_ > 0 || begun_ > 0) changed_.WaitWithTimeout(&mutex_, kHousekeepingNs);
}

void WorkerBackend::Start(CallRequest request, CallSink* sink) {
  const CallId id = request.id;
  const auto found = candidates_.find(request.member);
  if (found == candidates_.end()) {
    CallOutcome outcome;
    outcome.status = NotFound("MEMBER_NOT_FOUND: no member \"{}\" among the workers", request.member);
    sink->OnDone(id, std::move(outcome));
    return;
  }
  Todo todo;
  {
    MutexLock lock(&mutex_);
    Record record;
    record.request = std::move(request);
    record.sink = sink;
    record.candidates = found->second;
    record.waiting_since_ns = Now();
    const auto [it, added] = records_.emplace(id, std::move(record));
    CONCLAVE_CHECK_MSG(added, "a call id was used twice");
    if (stop_) {
      End(id, Cancelled("shutting down"), /*retryable=*/false, &todo);
    } else {
      pool_->Add(id, it->second.candidates);
      Pump(&todo);
    }
  }
  Do(std::move(todo));
}

void WorkerBackend::Cancel(CallId id) {
  Todo todo;
  {
    MutexLock lock(&mutex_);
    const auto it = records_.find(id);
    if (it == records_.end() || it->second.cancelled) return;
    it->second.cancelled = true;
    if (it->second.call == nullptr) {
      End(id, Cancelled("cancelled before it began"), /*retryable=*/false, &todo);
    } else if (stop_) {
      todo.abandon.push_back(it->second.call);
    } else {
      it->second.abandon_ns = Now() + options_.cancel_grace_ns;
      todo.cancel.push_back(it->second.call);
    }
  }
  Do(std::move(todo));
}

std::vector<MemberFacts> WorkerBackend::Describe() const {
  std::vector<MemberFacts> out;
  MutexLock lock(&mutex_);
  for (const WorkerMember& member : members_) {
    MemberFacts facts{.name = member.name, .backend = "worker", .weight = member.weight, .card = member.card};
    for (const int32_t worker : candidates_.at(member.name)) {
      const Worker& w = workers_[static_cast<size_t>(worker)];
      facts.location += (facts.location.empty() ? "" : ",") + w.address;
      facts.available |= pool_->up(worker);
      if (!facts.model.has_value() && w.described.has_model()) facts.model = w.described.model();
    }
    out.push_back(std::move(facts));
  }
  return out;
}

void WorkerBackend::Do(Todo todo) {
  for (const auto& call : todo.begin) call->Begin();
  for (const auto& call : todo.cancel) call->CancelOnWorker();
  for (const auto& call : todo.abandon) call->Abandon();
  for (const int32_t worker : todo.ask) Ask(worker);
  for (const int32_t worker : todo.ask_load) AskLoad(worker);
  for (Record& record : todo.ended) record.sink->OnDone(record.request.id, std::move(record.end));
}

void WorkerBackend::Pump(Todo* todo) {
  CallId id = 0;
  for (int32_t worker = pool_->BeginNext(&id); worker >= 0; worker = pool_->BeginNext(&id)) {
    todo->begin.push_back(MakeCall(id, &records_.at(id), worker));
  }
}

std::shared_ptr<WorkerCall> WorkerBackend::MakeCall(CallId id, Record* record, int32_t index) {
  const Worker& worker = workers_[static_cast<size_t>(index)];
  ++record->attempts;
  ++begun_;
  watch_.OnBegin(id, index, Now());
  record->call = WorkerCall::Create(
      {.request = record->request,
       .request_id = fmt::format("{}{:x}.{}", request_prefix_, id, record->attempts),
       .model = worker.described.model(),
       .stub = worker.stub.get(),
       .where = worker.address,
       .sink = record->sink,
       .timeout_ns = record->request.timeout_ns > 0 ? record->request.timeout_ns : options_.call_timeout_ns,
       .done = [this, id, index](WorkerCallEnd end) { OnCallEnd(id, index, std::move(end)); }});
  return record->call;
}

void WorkerBackend::End(CallId id, absl::Status status, bool retryable, Todo* todo) {
  const auto it = records_.find(id);
  pool_->Remove(id);
  it->second.end.status = std::move(status);
  it->second.end.retryable = retryable;
  todo->ended.push_back(std::move(it->second));
  records_.erase(it);
  changed_.SignalAll();
}

void WorkerBackend::OnCallEnd(CallId id, int32_t index, WorkerCallEnd end) {
  Todo todo;
  {
    MutexLock lock(&mutex_);
    Worker& worker = workers_[static_cast<size_t>(index)];
    Record& record = records_.at(id);
    pool_->Remove(id);
    watch_.OnEnd(id);
    record.call = nullptr;
    if (record.stalled && !end.outcome.status.ok()) {
      end.outcome.status = Unavailable("worker {}: stalled: neither a word nor a step of its engine for {} s",
                                       worker.address, options_.stall_ns / 1'000'000'000);
      end.outcome.retryable = true;
      end.retry_delay_ns.reset();
      worker.stalled = true;
    }
    record.stalled = false;
    if (end.outcome.retryable && !stop_) {
      // What waits for this worker goes elsewhere, and it is asked whether it is back.
      pool_->SetDown(index);
      const bool draining = rpc::Reason(end.outcome.status) == "DRAINING";
      worker.ask_after_ns = Now() + (draining ? kDrainingAgainNs : kDescribeAgainNs);
    }
    if (end.retry_delay_ns.has_value() && !end.outcome.status.ok() && !record.cancelled && !stop_ &&
        record.attempts < kBusyRetriesMax) {
      record.delayed = true;
      record.resume_ns = Now() + *end.retry_delay_ns;
    } else {
      if (end.outcome.instance_id.empty()) end.outcome.instance_id = worker.described.instance_id();
      if (end.outcome.model_revision.empty()) end.outcome.model_revision = worker.described.model().revision();
      absl::Status status = end.outcome.status;
      const bool retryable = end.outcome.retryable && !record.cancelled;
      record.end = std::move(end.outcome);
      End(id, std::move(status), retryable, &todo);
    }
    Pump(&todo);
  }
  Do(std::move(todo));
  MutexLock lock(&mutex_);  // last: the destructor waits for it
  --begun_;
  changed_.SignalAll();
}

void WorkerBackend::Ask(int32_t index) {
  struct Exchange {
    grpc::ClientContext context;
    pb::GetModelRequest request;
    pb::GetModelResponse response;
  };
  auto exchange = std::make_shared<Exchange>();
  exchange->context.set_wait_for_ready(true);
  SetDeadline(&exchange->context, kDescribeTimeoutNs);
  pb::InferenceService::Stub* stub = nullptr;
  {
    MutexLock lock(&mutex_);
    stub = workers_[static_cast<size_t>(index)].stub.get();
  }
  stub->async()->GetModel(
      &exchange->context, &exchange->request, &exchange->response,
      [this, exchange, index](const grpc::Status& status) { OnDescribed(index, status, exchange->response); });
}

void WorkerBackend::OnDescribed(int32_t index, const grpc::Status& status, const pb::GetModelResponse& response) {
  Todo todo;
  {
    MutexLock lock(&mutex_);
    Worker& worker = workers_[static_cast<size_t>(index)];
    worker.asking = false;
    worker.ask_after_ns = Now() + kDescribeAgainNs;
    if (status.ok() && !stop_ && worker.stalled) {
      todo.ask_load.push_back(index);  // it answers, but does its engine work?
      ++asking_;
    } else if (status.ok() && !stop_) {
      worker.described = response;
      pool_->SetUp(index);
      Pump(&todo);
    }
  }
  Do(std::move(todo));
  MutexLock lock(&mutex_);  // last: the destructor waits for it
  --asking_;
  changed_.SignalAll();
}

void WorkerBackend::AskLoad(int32_t index) {
  struct Exchange {
    grpc::ClientContext context;
    pb::GetLoadRequest request;
    pb::GetLoadResponse response;
  };
  auto exchange = std::make_shared<Exchange>();
  SetDeadline(&exchange->context, kDescribeTimeoutNs);
  pb::InferenceService::Stub* stub = nullptr;
  {
    MutexLock lock(&mutex_);
    stub = workers_[static_cast<size_t>(index)].stub.get();
  }
  stub->async()->GetLoad(
      &exchange->context, &exchange->request, &exchange->response,
      [this, exchange, index](const grpc::Status& status) { OnLoad(index, status, exchange->response); });
}

void WorkerBackend::OnLoad(int32_t index, const grpc::Status& status, const pb::GetLoadResponse& response) {
  MutexLock lock(&mutex_);
  Worker& worker = workers_[static_cast<size_t>(index)];
  if (status.ok()) {
    const bool grew = watch_.OnSteps(index, response.step_count(), Now());
    const bool idle = response.running_count() == 0 && response.queued_count() == 0;
    if (grew || idle) worker.stalled = false;
  }
  --asking_;  // last: the destructor waits for it
  changed_.SignalAll();
}

// Asks workers of silent calls how they do, and gives up calls of workers that do nothing.
void WorkerBackend::Watch(int64_t now_ns, Todo* todo) {
  for (const auto& [id, record] : records_) {
    if (record.call != nullptr) watch_.OnMessages(id, record.call->messages(), now_ns);
  }
  for (const int32_t worker : watch_.TakeToAsk(now_ns)) {
    todo->ask_load.push_back(worker);
    ++asking_;
  }
  for (const CallId id : watch_.TakeStalled(now_ns)) {
    Record& record = records_.at(id);
    record.stalled = true;
    todo->abandon.push_back(record.call);
  }
}

void WorkerBackend::Housekeep() {
  while (true) {
    Todo todo;
    {
      MutexLock lock(&mutex_);
      if (stop_) return;
      HousekeepOnce(&todo);
    }
    Do(std::move(todo));
    MutexLock lock(&mutex_);
    if (!stop_) changed_.WaitWithTimeout(&mutex_, kHousekeepingNs);
  }
}

void WorkerBackend::HousekeepOnce(Todo* todo) {
  const int64_t now = Now();
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (pool_->up(static_cast<int32_t>(i)) || worker.asking || now < worker.ask_after_ns) continue;
    worker.asking = true;
    ++asking_;
    todo->ask.push_back(static_cast<int32_t>(i));
  }
  std::vector<CallId> unreachable;
  for (auto& [id, record] : records_) {
    if (record.delayed) {
      if (now < record.resume_ns) continue;
      record.delayed = false;
      record.waiting_since_ns = now;
      pool_->Add(id, record.candidates);
    } else if (record.call == nullptr) {
      const int32_t worker = pool_->WorkerOf(id);
      if (!pool_->up(worker) && now - record.waiting_since_ns > options_.unreachable_ns) unreachable.push_back(id);
    } else if (record.cancelled && now > record.abandon_ns) {
      todo->abandon.push_back(record.call);
    }
  }
  for (const CallId id : unreachable) {
    End(id, Unavailable("NO_WORKER: no worker of member \"{}\" can be reached", records_.at(id).request.member),
        /*retryable=*/true, todo);
  }
  Watch(now, todo);
  Pump(todo);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> ConnectWorkers(std::vector<WorkerMember> members,
                                                        const WorkerBackendOptions& options,
                                                        int64_t connect_timeout_ns) {
  KeepCallbackQueue();
  auto backend = std::make_unique<WorkerBackend>(std::move(members), options);
  RETURN_IF_ERROR(backend->Connect(connect_timeout_ns));
  return backend;
}

}  // namespace conclave::orchestrator
