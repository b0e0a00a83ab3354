// SPDX-License-Identifier: Apache-2.0
// How often each expert of each layer was chosen, and what a step's choices cost.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace conclave::engine {

// Counted by the step thread, read by any. Nothing is allocated after construction.
class ExpertCounters {
 public:
  // Layers with experts, and experts of each; 0 and 0 for a dense model.
  ExpertCounters(int32_t layers, int32_t experts);

  // One step's choices: ids [layers, choices of a layer], -1 for a skipped slot. Sets the numbers below.
  void CountStep(std::span<const int32_t> ids);
  // Experts of a layer that the last step's tokens chose: those whose weights were read.
  int32_t distinct(int32_t layer) const { return distinct_[static_cast<size_t>(layer)]; }

  int32_t layers() const { return static_cast<int32_t>(distinct_.size()); }
  int32_t experts() const { return experts_; }
  // Choices since construction, [layers, experts].
  std::vector<int64_t> Snapshot() const;

 private:
  const int32_t experts_;
  std::vector<int32_t> distinct_;
  std::vector<uint32_t> seen_;  // per expert: the number of the layer's count that last met it
  uint32_t epoch_ = 0;
  std::unique_ptr<std::atomic<int64_t>[]> counts_;  // [layers, experts]; one writer
};

}  // namespace conclave::engine
