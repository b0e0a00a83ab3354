// SPDX-License-Identifier: Apache-2.0
// What one rendering may spend. Templates come from model files and graphs: neither may hang or fill a process.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

namespace conclave::jinja {

inline constexpr int64_t kMaxSteps = 1'000'000;       // evaluated nodes, plus one per kBytesPerStep handled
inline constexpr int kMaxDepth = 100;                 // nesting of source, of macro calls, of containers
inline constexpr size_t kMaxOutputBytes = 4u << 20;   // the rendered text, and any one string on the way
inline constexpr size_t kMaxMemoryBytes = 64u << 20;  // all strings and lists made during one rendering
inline constexpr size_t kMaxSourceBytes = 1u << 20;   // a template's source
inline constexpr int64_t kMaxRangeItems = 100'000;    // range(), as in Python jinja2's sandbox
inline constexpr size_t kBytesPerStep = 64;           // string bytes that cost as much as one node
inline constexpr int kMaxEvaluationNesting = 1'000;   // nested evaluations over all active macro calls

struct Limits {
  int64_t steps = kMaxSteps;
  int depth = kMaxDepth;
  size_t output_bytes = kMaxOutputBytes;
  size_t memory_bytes = kMaxMemoryBytes;
};

// Counts spending. Once a limit is crossed, every later charge fails too, so a caller that cannot return an error (a
// comparison inside a sort) may go on and let the next charge report it.
class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // One unit of work, or `count` of them.
  absl::Status Step(int64_t count = 1) {
    if (Spend(count)) return absl::OkStatus();
    return Exceeded();
  }
  // Work over `bytes` bytes that are read, not kept.
  absl::Status Scan(size_t bytes) { return Step(static_cast<int64_t>(bytes / kBytesPerStep)); }
  // `bytes` bytes that are about to be kept.
  absl::Status Allocate(size_t bytes);
  // A string about to be made: as Allocate, and no longer than the output may be.
  absl::Status AllocateString(size_t bytes);
  // A string that grew to `bytes` while it was written (its pieces are charged as they come).
  absl::Status CheckLength(size_t bytes) const;
  // A container whose depth is about to be `depth`.
  absl::Status CheckDepth(int depth) const;

  // As Step, for callers that only need to stop: false once the budget is gone.
  bool Spend(int64_t count) { return (steps_ += count) <= limits_.steps; }

  const Limits& limits() const { return limits_; }
  int64_t steps() const { return steps_; }

 private:
  absl::Status Exceeded() const;

  const Limits limits_;
  int64_t steps_ = 0;
  size_t memory_bytes_ = 0;
};

}  // namespace conclave::jinja
