// SPDX-License-Identifier: Apache-2.0
// What a dispatcher does because time has passed: who is asked, who is given up, who has waited too long.
#include <utility>

#include "common/status.h"
#include "orchestrator/backend/worker_dispatcher.h"

namespace conclave::orchestrator {

// Asks workers of silent calls how they do, and gives up calls of workers that do nothing.
void WorkerDispatcher::Watch(int64_t now_ns, Todo* todo) {
  for (const auto& [id, record] : records_) {
    if (record.call == nullptr) continue;
    if (watch_.OnMessages(id, record.call->messages(), now_ns)) leases_.Renew(pool_.WorkerOf(id), now_ns);
  }
  for (const int32_t worker : leases_.TakeToAsk(now_ns)) AskLoad(worker, todo);
  FenceExpired(now_ns, todo);
  for (const int32_t worker : watch_.TakeToAsk(now_ns)) AskLoad(worker, todo);
  for (const CallId id : watch_.TakeStalled(now_ns)) {
    Record& record = records_.at(id);
    record.stalled = true;
    Abandon(id, &record, now_ns, todo);
  }
  todo->tell = leases_.TakeToTell();
}

// Ends a call here whatever its worker does, who is told when it is heard of.
void WorkerDispatcher::Abandon(CallId id, Record* record, int64_t now_ns, Todo* todo) {
  if (std::exchange(record->abandoned, true)) return;
  leases_.Fence(pool_.WorkerOf(id), record->request_id, now_ns);
  todo->abandon.push_back(record->call);
}

// A worker whose lease ran out gets nothing more, and what it works on is given up: it goes on elsewhere. Late words of
// it reach nobody, because its calls have ended here.
void WorkerDispatcher::FenceExpired(int64_t now_ns, Todo* todo) {
  for (const int32_t worker : leases_.TakeExpired(now_ns)) {
    bool lost_work = false;
    for (auto& [id, record] : records_) {
      if (record.call == nullptr || pool_.WorkerOf(id) != worker) continue;
      lost_work = record.fenced = true;
      Abandon(id, &record, now_ns, todo);
    }
    if (lost_work) CountFailure(worker);
    pool_.SetDown(worker);
    trunks_.Forget(worker);
  }
}

std::string WorkerDispatcher::WhyNobody(const Record& record) const {
  std::string why = fmt::format("no worker of member \"{}\" can be reached", record.request.member);
  for (const int32_t candidate : record.candidates) {
    const Worker& worker = workers_[static_cast<size_t>(candidate)];
    if (worker.breaker.open()) why += fmt::format("; {} is left alone after {}", worker.address, worker.breaker.Why());
  }
  return why;
}

void WorkerDispatcher::Housekeep() {
  Todo todo;
  {
    MutexLock lock(&mutex_);
    if (stop_) return;
    HousekeepOnce(&todo);
  }
  Do(std::move(todo));
}

void WorkerDispatcher::HousekeepOnce(Todo* todo) {
  const int64_t now = Now();
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (pool_.up(static_cast<int32_t>(i)) || worker.asking || now < worker.ask_after_ns) continue;
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
      pool_.Add(id, record.candidates, trunks_.Warmest(record.request, record.candidates));
    } else if (record.call == nullptr) {
      const int32_t worker = pool_.WorkerOf(id);
      if (!pool_.up(worker) && now - record.waiting_since_ns > options_.unreachable_ns) unreachable.push_back(id);
    } else if (record.cancelled && now > record.abandon_ns) {
      Abandon(id, &record, now, todo);
    }
  }
  for (const CallId id : unreachable) {
    End(id, Unavailable("NO_WORKER: {}", WhyNobody(records_.at(id))), /*retryable=*/true, todo);
  }
  Watch(now, todo);
  RenewTrunks(now, todo);
  Pump(todo);
}

}  // namespace conclave::orchestrator
