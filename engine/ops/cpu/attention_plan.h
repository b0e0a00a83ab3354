// SPDX-License-Identifier: Apache-2.0
// How a step's attention is cut into tasks.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/host_ops.h"

namespace conclave::engine::cpu {

// One call of Kernels::attend.
struct AttentionTask {
  int32_t row_begin, num_rows;  // into CpuPlan::rows
  int32_t kv_head, head_begin, head_count;
  int32_t segment_begin, segment_end;
};

// Cosines and sines of one RopeSpec for the step's tokens.
struct RopeTable {
  RopeSpec spec;
  float* cosine;  // [T, width]
  float* sine;
  int32_t width;
};

struct CpuPlan : HostPlan {
  // Tokens, those of sequences with a common prefix next to each other, so that a task finds what they share.
  std::vector<AttendRow> rows;
  std::vector<AttentionTask> tasks;
  bool partials = false;  // segments are tasks of their own, merged afterwards
  int num_rope_tables = 0;
  std::vector<RopeTable> rope_tables;
  std::vector<int32_t> order;  // scratch: sequences
};

struct AttentionShape {
  int32_t query_heads, kv_heads;
  int32_t threads;
  int64_t partials_max;  // segments of tokens for which there is room
};

// Reserves for the largest step.
void ReservePlan(const Ops::StepLimits& limits, const AttentionShape& shape, int32_t page_tokens, CpuPlan* plan);

// Fills rows and tasks from plan->batch. Which tasks there are never changes a result, only who computes it.
void PlanAttention(const AttentionShape& shape, CpuPlan* plan);

}  // namespace conclave::engine::cpu
