// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_pool.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/check.h"

namespace conclave::orchestrator {

WorkerPool::WorkerPool(int32_t worker_count, int32_t calls_per_worker_max)
    : calls_per_worker_max_(calls_per_worker_max), workers_(Index(worker_count)) {}

int32_t WorkerPool::Choose(const std::vector<int32_t>& candidates, int32_t preferred) const {
  CONCLAVE_CHECK(!candidates.empty());
  const auto load = [this, preferred](int32_t worker) {
    const Worker& w = workers_[Index(worker)];
    return std::tuple(!w.up, static_cast<size_t>(w.running) + w.queue.size(), worker != preferred);
  };
  return *std::min_element(candidates.begin(), candidates.end(),
                           [&](int32_t a, int32_t b) { return load(a) < load(b); });
}

void WorkerPool::Add(CallId call, std::vector<int32_t> candidates, int32_t preferred) {
  const int32_t worker = Choose(candidates, preferred);
  workers_[Index(worker)].queue.push_back(call);
  const bool added = places_.emplace(call, Place{std::move(candidates), worker, false}).second;
  CONCLAVE_CHECK_MSG(added, "a call id was used twice");
}

void WorkerPool::Remove(CallId call) {
  const auto it = places_.find(call);
  if (it == places_.end()) return;
  Worker& worker = workers_[Index(it->second.worker)];
  if (it->second.running) {
    --worker.running;
  } else {
    worker.queue.erase(std::find(worker.queue.begin(), worker.queue.end(), call));
  }
  places_.erase(it);
}

void WorkerPool::SetDown(int32_t index) {
  Worker& worker = workers_[Index(index)];
  worker.up = false;
  const std::deque<CallId> waiting = std::exchange(worker.queue, {});
  for (const CallId call : waiting) {
    Place& place = places_.at(call);
    place.worker = Choose(place.candidates, /*preferred=*/-1);
    workers_[Index(place.worker)].queue.push_back(call);
  }
}

int32_t WorkerPool::BeginNext(CallId* call) {
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (!worker.up || worker.queue.empty() || worker.running >= worker.calls_max) continue;
    *call = worker.queue.front();
    worker.queue.pop_front();
    ++worker.running;
    places_.at(*call).running = true;
    return static_cast<int32_t>(i);
  }
  return -1;
}

int32_t WorkerPool::WorkerOf(CallId call) const {
  const auto it = places_.find(call);
  return it == places_.end() ? -1 : it->second.worker;
}

}  // namespace conclave::orchestrator
