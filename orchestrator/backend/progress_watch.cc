// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/progress_watch.h"

#include <algorithm>
#include <set>

namespace conclave::orchestrator {

void ProgressWatch::OnBegin(CallId call, int32_t worker, int64_t now_ns) {
  calls_[call] = {.worker = worker, .messages = 0, .heard_ns = now_ns, .told = false};
}

bool ProgressWatch::OnMessages(CallId call, int64_t count, int64_t now_ns) {
  const auto it = calls_.find(call);
  if (it == calls_.end() || it->second.messages == count) return false;
  it->second.messages = count;
  it->second.heard_ns = now_ns;
  return true;
}

bool ProgressWatch::OnSteps(int32_t worker, int64_t steps, int64_t now_ns) {
  Worker& known = workers_[worker];
  if (known.steps == steps) return false;
  const bool first = known.steps < 0;
  known.steps = steps;
  known.moved_ns = now_ns;
  return !first;
}

void ProgressWatch::OnEnd(CallId call) { calls_.erase(call); }

std::vector<int32_t> ProgressWatch::TakeToAsk(int64_t now_ns) {
  std::set<int32_t> ask;  // in order, so that equal histories give equal answers
  for (const auto& [id, call] : calls_) {
    if (now_ns - call.heard_ns >= stall_ns_ / 4) ask.insert(call.worker);
  }
  std::erase_if(ask, [&](int32_t index) {
    const Worker& worker = workers_[index];
    return worker.asked && now_ns - worker.asked_ns < stall_ns_ / 4;
  });
  for (const int32_t index : ask) {
    workers_[index].asked = true;
    workers_[index].asked_ns = now_ns;
  }
  return {ask.begin(), ask.end()};
}

std::vector<CallId> ProgressWatch::TakeStalled(int64_t now_ns) {
  std::vector<CallId> stalled;
  for (auto& [id, call] : calls_) {
    if (call.told || now_ns - call.heard_ns < stall_ns_) continue;
    const auto worker = workers_.find(call.worker);
    if (worker == workers_.end() || !worker->second.asked) continue;
    // Steps that grew before this call fell silent say nothing about now.
    if (now_ns - worker->second.moved_ns < stall_ns_) continue;
    call.told = true;
    stalled.push_back(id);
  }
  std::sort(stalled.begin(), stalled.end());
  return stalled;
}

}  // namespace conclave::orchestrator
