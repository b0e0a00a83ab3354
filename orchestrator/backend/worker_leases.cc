// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_leases.h"

#include <algorithm>
#include <utility>

namespace conclave::orchestrator {

std::vector<std::string> WorkerLeases::Grant(int32_t index, std::string_view instance_id, int64_t now_ns) {
  Worker& worker = workers_[Index(index)];
  worker.held = true;
  worker.heard_ns = worker.asked_ns = now_ns;
  std::vector<std::string> told = std::exchange(worker.fenced, {});
  if (worker.instance_id == instance_id) return told;
  worker.instance_id = std::string(instance_id);
  return {};  // what another process worked on has ended with it
}

void WorkerLeases::Renew(int32_t index, int64_t now_ns) {
  Worker& worker = workers_[Index(index)];
  if (worker.held) worker.heard_ns = std::max(worker.heard_ns, now_ns);
}

void WorkerLeases::Fence(int32_t index, std::string request_id, int64_t now_ns) {
  Worker& worker = workers_[Index(index)];
  if (worker.fenced.size() >= kFencedMax) worker.fenced.erase(worker.fenced.begin());
  worker.fenced.push_back(std::move(request_id));
  worker.fenced_ns = now_ns;
}

std::vector<std::pair<int32_t, std::vector<std::string>>> WorkerLeases::TakeToTell() {
  std::vector<std::pair<int32_t, std::vector<std::string>>> tell;
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (!worker.held || worker.fenced.empty() || worker.heard_ns <= worker.fenced_ns) continue;
    tell.emplace_back(static_cast<int32_t>(i), std::exchange(worker.fenced, {}));
  }
  return tell;
}

std::vector<int32_t> WorkerLeases::TakeToAsk(int64_t now_ns) {
  std::vector<int32_t> ask;
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (!worker.held || now_ns - std::max(worker.heard_ns, worker.asked_ns) < kLeaseBeatNs) continue;
    worker.asked_ns = now_ns;
    ask.push_back(static_cast<int32_t>(i));
  }
  return ask;
}

std::vector<int32_t> WorkerLeases::TakeExpired(int64_t now_ns) {
  std::vector<int32_t> expired;
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (!worker.held || now_ns - worker.heard_ns < kLeaseNs) continue;
    worker.held = false;
    expired.push_back(static_cast<int32_t>(i));
  }
  return expired;
}

}  // namespace conclave::orchestrator
