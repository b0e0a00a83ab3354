// SPDX-License-Identifier: Apache-2.0
#include "engine/routing/expert_counters.h"

#include "common/check.h"

namespace conclave::engine {

ExpertCounters::ExpertCounters(int32_t layers, int32_t experts)
    : experts_(experts),
      distinct_(static_cast<size_t>(layers), 0),
      seen_(static_cast<size_t>(experts), 0),
      counts_(new std::atomic<int64_t>[static_cast<size_t>(layers) * static_cast<size_t>(experts)]()) {}

void ExpertCounters::CountStep(std::span<const int32_t> ids) {
  if (distinct_.empty()) return;
  CONCLAVE_CHECK(ids.size() % distinct_.size() == 0);
  const size_t per_layer = ids.size() / distinct_.size();
  for (size_t layer = 0; layer < distinct_.size(); ++layer) {
    if (++epoch_ == 0) {  // once in four thousand million: begin again
      seen_.assign(seen_.size(), 0);
      epoch_ = 1;
    }
    distinct_[layer] = 0;
    for (const int32_t id : ids.subspan(layer * per_layer, per_layer)) {
      if (id < 0) continue;
      CONCLAVE_CHECK(id < experts_);
      const size_t expert = static_cast<size_t>(id);
      if (seen_[expert] != epoch_) {
        seen_[expert] = epoch_;
        ++distinct_[layer];
      }
      std::atomic<int64_t>& count = counts_[layer * seen_.size() + expert];
      count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
  }
}

std::vector<int64_t> ExpertCounters::Snapshot() const {
  std::vector<int64_t> counts(distinct_.size() * seen_.size());
  for (size_t i = 0; i < counts.size(); ++i) counts[i] = counts_[i].load(std::memory_order_relaxed);
  return counts;
}

}  // namespace conclave::engine
