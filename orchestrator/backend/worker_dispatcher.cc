// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_dispatcher.h"

#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kLookAgainNs = 50 * kNsPerMs;
constexpr int64_t kDescribeAgainNs = 200 * kNsPerMs;    // a lost worker is asked again after this time
constexpr int64_t kDrainingAgainNs = 2'000 * kNsPerMs;  // a draining one would only refuse again
constexpr int32_t kBusyRetriesMax = 100;                // of one call at full workers

// Each process's request ids begin with a number of its own, so that two orchestrators never share one.
std::string MakeRequestPrefix() {
  uint64_t random = 0;
  CONCLAVE_CHECK(getrandom(&random, sizeof(random), 0) == static_cast<ssize_t>(sizeof(random)));
  return fmt::format("{:016x}-", random);
}

}  // namespace

namespace pb = ::conclave::inference::v1;

WorkerDispatcher::WorkerDispatcher(std::vector<WorkerMember> members, std::vector<std::string> addresses,
                                   const WorkerBackendOptions& options, std::unique_ptr<WorkerTransport> transport)
    : options_(options),
      members_(std::move(members)),
      request_prefix_(options.request_prefix.empty() ? MakeRequestPrefix() : options.request_prefix),
      transport_(std::move(transport)),
      pool_(static_cast<int32_t>(addresses.size()), options.calls_per_worker_max),
      watch_(options.stall_ns),
      leases_(static_cast<int32_t>(addresses.size())),
      trunks_(static_cast<int32_t>(addresses.size())) {
  std::map<std::string, int32_t> index;
  for (std::string& address : addresses) {
    index[address] = static_cast<int32_t>(workers_.size());
    workers_.push_back({.address = std::move(address), .described = {}, .breaker = Breaker(options.breaker)});
  }
  for (const WorkerMember& member : members_) {
    for (const std::string& address : member.addresses) candidates_[member.name].push_back(index.at(address));
  }
}

WorkerDispatcher::~WorkerDispatcher() {
  Stop();
  // Calls hold the transport and this object until they have ended.
  MutexLock lock(&mutex_);
  while (!records_.empty() || asking_ > 0 || begun_ > 0) changed_.WaitWithTimeout(&mutex_, kLookAgainNs);
}

void WorkerDispatcher::Stop() {
  std::vector<CallId> running;
  Todo todo;
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    todo.trunks = trunks_.TakeAll();
    for (const auto& [id, record] : records_) running.push_back(id);
    changed_.SignalAll();
  }
  Do(std::move(todo));
  for (const CallId id : running) Cancel(id);
  transport_->EndAsking();  // a worker that is gone would be waited for
}

bool WorkerDispatcher::WaitForChange(int64_t timeout_ns) {
  MutexLock lock(&mutex_);
  if (!stop_) changed_.WaitWithTimeout(&mutex_, timeout_ns);
  return !stop_;
}

std::string WorkerDispatcher::Missing() const {
  std::string missing;
  MutexLock lock(&mutex_);
  for (size_t i = 0; i < workers_.size(); ++i) {
    if (!pool_.up(static_cast<int32_t>(i))) missing += (missing.empty() ? "" : ", ") + workers_[i].address;
  }
  return missing;
}

void WorkerDispatcher::Start(CallRequest request, CallSink* sink) {
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
    Record& added_record = it->second;
    if (stop_) {
      End(id, Cancelled("shutting down"), /*retryable=*/false, &todo);
    } else if (!LeaveTo(added_record.request.beside, &added_record.candidates)) {
      End(id,
          FailedPrecondition("NO_OTHER_WORKER: no other worker of member \"{}\" is up", added_record.request.member),
          /*retryable=*/false, &todo);
    } else {
      pool_.Add(id, it->second.candidates, trunks_.Warmest(added_record.request, added_record.candidates));
      Pump(&todo);
    }
  }
  Do(std::move(todo));
}

// Takes the worker of a late call off the candidates of the one that is to overtake it. False: nobody else is up.
bool WorkerDispatcher::LeaveTo(std::optional<CallId> late, std::vector<int32_t>* candidates) const {
  if (!late.has_value()) return true;
  const int32_t worker = pool_.WorkerOf(*late);
  std::erase(*candidates, worker);
  return std::any_of(candidates->begin(), candidates->end(), [this](int32_t other) { return pool_.up(other); });
}

void WorkerDispatcher::Cancel(CallId id) {
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

std::vector<MemberFacts> WorkerDispatcher::Describe() const {
  std::vector<MemberFacts> out;
  MutexLock lock(&mutex_);
  for (const WorkerMember& member : members_) {
    MemberFacts facts{.name = member.name, .backend = "worker", .weight = member.weight, .card = member.card};
    for (const int32_t worker : candidates_.at(member.name)) {
      const Worker& w = workers_[static_cast<size_t>(worker)];
      facts.location += (facts.location.empty() ? "" : ",") + w.address;
      facts.available |= pool_.up(worker);
      if (!facts.model.has_value() && w.described.has_model()) {
        facts.model = w.described.model();
        facts.abilities.json_schema = facts.abilities.grammar = facts.model->supports_constraints();
      }
    }
    out.push_back(std::move(facts));
  }
  return out;
}

void WorkerDispatcher::Do(Todo todo) {
  for (const auto& call : todo.begin) call->Begin();
  for (const auto& call : todo.cancel) call->CancelOnWorker();
  for (const auto& call : todo.abandon) call->Abandon();
  for (const int32_t worker : todo.ask) {
    transport_->GetModel(worker, [this, worker](const absl::Status& status, const pb::GetModelResponse& response) {
      OnDescribed(worker, status, response);
    });
  }
  for (const int32_t worker : todo.ask_load) {
    transport_->GetLoad(worker, [this, worker](const absl::Status& status, const pb::GetLoadResponse& response) {
      OnLoad(worker, status, response);
    });
  }
  for (auto& [worker, request_ids] : todo.tell) Tell(worker, std::move(request_ids));
  DoTrunks(todo);
  for (Record& record : todo.ended) record.sink->OnDone(record.request.id, std::move(record.end));
}

void WorkerDispatcher::Tell(int32_t worker, std::vector<std::string> given_up) {
  {
    MutexLock lock(&mutex_);
    ++asking_;
  }
  auto ids = std::make_shared<const std::vector<std::string>>(std::move(given_up));
  transport_->CancelRequests(worker, *ids, [this, worker, ids](const absl::Status& status) {
    MutexLock lock(&mutex_);
    if (status.code() == absl::StatusCode::kUnavailable || status.code() == absl::StatusCode::kDeadlineExceeded) {
      for (const std::string& id : *ids) leases_.Fence(worker, id, Now());  // it has not heard of it
    }
    --asking_;  // last: the destructor waits for it
    changed_.SignalAll();
  });
}

void WorkerDispatcher::Pump(Todo* todo) {
  CallId id = 0;
  for (int32_t worker = pool_.BeginNext(&id); worker >= 0; worker = pool_.BeginNext(&id)) {
    todo->begin.push_back(MakeCall(id, &records_.at(id), worker));
  }
}

std::shared_ptr<WorkerCall> WorkerDispatcher::MakeCall(CallId id, Record* record, int32_t index) {
  const Worker& worker = workers_[static_cast<size_t>(index)];
  ++record->attempts;
  ++begun_;
  record->request_id = fmt::format("{}{:x}.{}", request_prefix_, id, record->attempts);
  watch_.OnBegin(id, index, Now());
  record->call = transport_->MakeCall(
      index, {.request = record->request,
              .request_id = record->request_id,
              .model = worker.described.model(),
              .where = worker.address,
              .sink = record->sink,
              .timeout_ns = record->request.timeout_ns > 0 ? record->request.timeout_ns : options_.call_timeout_ns,
              .done = [this, id, index](WorkerCallEnd end) { OnCallEnd(id, index, std::move(end)); }});
  return record->call;
}

void WorkerDispatcher::End(CallId id, absl::Status status, bool retryable, Todo* todo) {
  const auto it = records_.find(id);
  pool_.Remove(id);
  it->second.end.status = std::move(status);
  it->second.end.retryable = retryable;
  todo->ended.push_back(std::move(it->second));
  records_.erase(it);
  changed_.SignalAll();
}

// A call that was given up here ends as lost, whatever the transport says of its end.
void WorkerDispatcher::WhyLost(const Record& record, Worker* worker, WorkerCallEnd* end) const {
  if ((!record.stalled && !record.fenced) || end->outcome.status.ok()) return;
  end->outcome.status =
      record.fenced ? Unavailable("worker {}: LEASE: not a word for {} s", worker->address, kLeaseNs / 1'000'000'000)
                    : Unavailable("worker {}: stalled: neither a word nor a step of its engine for {} s",
                                  worker->address, options_.stall_ns / 1'000'000'000);
  end->outcome.retryable = true;
  end->retry_delay_ns.reset();
  if (record.stalled) worker->stalled = true;
}

// A worker that goes down takes many calls along: that counts once.
void WorkerDispatcher::CountEnd(int32_t index, const CallOutcome& outcome, bool draining) {
  Worker& worker = workers_[static_cast<size_t>(index)];
  const Breaker::Pass pass = worker.trial ? Breaker::Pass::kTrial : Breaker::Pass::kYes;
  if (outcome.status.ok()) {
    worker.breaker.Succeeded(pass);
    if (std::exchange(worker.trial, false) && pool_.up(index)) pool_.SetUp(index);
  } else if (outcome.retryable && !draining && pool_.up(index)) {
    CountFailure(index);
  }
}

void WorkerDispatcher::CountFailure(int32_t index) {
  Worker& worker = workers_[static_cast<size_t>(index)];
  const bool trial = std::exchange(worker.trial, false);
  worker.breaker.Failed(trial ? Breaker::Pass::kTrial : Breaker::Pass::kYes, Now());
}

// It is there: it gets work, or one call to try it, or is left alone still.
void WorkerDispatcher::PutToWork(int32_t index) {
  Worker& worker = workers_[static_cast<size_t>(index)];
  const Breaker::Pass pass = worker.trial ? Breaker::Pass::kTrial : worker.breaker.Ask(Now());
  worker.trial = pass == Breaker::Pass::kTrial;
  if (pass != Breaker::Pass::kNo) pool_.SetUp(index, worker.trial ? 1 : options_.calls_per_worker_max);
}

void WorkerDispatcher::OnCallEnd(CallId id, int32_t index, WorkerCallEnd end) {
  Todo todo;
  {
    MutexLock lock(&mutex_);
    Worker& worker = workers_[static_cast<size_t>(index)];
    Record& record = records_.at(id);
    if (watch_.OnMessages(id, record.call->messages(), Now())) leases_.Renew(index, Now());
    // Whose connection broke is told, too, that nobody waits there any more.
    const std::string reason = rpc::Reason(end.outcome.status);
    if (end.outcome.retryable && !record.abandoned && reason.empty()) leases_.Fence(index, record.request_id, Now());
    pool_.Remove(id);
    watch_.OnEnd(id);
    record.call = nullptr;
    WhyLost(record, &worker, &end);
    record.stalled = record.fenced = record.abandoned = false;
    if (!stop_) CountEnd(index, end.outcome, reason == "DRAINING");
    if (!stop_ && end.outcome.status.ok()) NoteTrunk(index, record.request, &todo);
    if (end.outcome.retryable && !stop_) {
      // What waits for this worker goes elsewhere, and it is asked whether it is back.
      pool_.SetDown(index);
      worker.ask_after_ns = Now() + (reason == "DRAINING" ? kDrainingAgainNs : kDescribeAgainNs);
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

void WorkerDispatcher::OnDescribed(int32_t index, const absl::Status& status, const pb::GetModelResponse& response) {
  Todo todo;
  {
    MutexLock lock(&mutex_);
    Worker& worker = workers_[static_cast<size_t>(index)];
    worker.asking = false;
    worker.ask_after_ns = Now() + kDescribeAgainNs;
    if (status.ok()) leases_.Renew(index, Now());
    if (status.ok() && !stop_ && worker.stalled) {
      AskLoad(index, &todo);  // it answers, but does its engine work?
    } else if (status.ok() && !stop_) {
      if (worker.described.instance_id() != response.instance_id()) trunks_.Forget(index);
      worker.described = response;
      std::vector<std::string> given_up = leases_.Grant(index, response.instance_id(), Now());
      if (!given_up.empty()) todo.tell.emplace_back(index, std::move(given_up));
      PutToWork(index);
      Pump(&todo);
    }
  }
  Do(std::move(todo));
  MutexLock lock(&mutex_);  // last: the destructor waits for it
  --asking_;
  changed_.SignalAll();
}

void WorkerDispatcher::OnLoad(int32_t index, const absl::Status& status, const pb::GetLoadResponse& response) {
  MutexLock lock(&mutex_);
  Worker& worker = workers_[static_cast<size_t>(index)];
  if (status.ok()) {
    leases_.Renew(index, Now());
    const bool grew = watch_.OnSteps(index, response.step_count(), Now());
    const bool idle = response.running_count() == 0 && response.queued_count() == 0;
    if (grew || idle) worker.stalled = false;
  }
  --asking_;  // last: the destructor waits for it
  changed_.SignalAll();
}

}  // namespace conclave::orchestrator
