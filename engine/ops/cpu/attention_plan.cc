// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/attention_plan.h"

#include <algorithm>

namespace conclave::engine::cpu {
namespace {

// Below this many tasks per thread, segments become tasks of their own.
constexpr int kTasksPerThread = 8;

struct Split {
  int32_t heads_per_task, head_tasks, tokens_per_task;
};

Split SplitHeads(const AttentionShape& shape) {
  const int32_t group = shape.query_heads / shape.kv_heads;
  Split split;
  split.heads_per_task = std::min(group, kAttendRows);
  split.head_tasks = (group + split.heads_per_task - 1) / split.heads_per_task;
  split.tokens_per_task = std::max(1, kAttendRows / split.heads_per_task);
  return split;
}

// Sequences by their block tables, so that equal beginnings are neighbours.
void OrderSequences(const StepBatch& batch, std::vector<int32_t>* order) {
  order->resize(batch.kv_len.size());
  for (size_t s = 0; s < order->size(); ++s) (*order)[s] = static_cast<int32_t>(s);
  std::sort(order->begin(), order->end(), [&batch](int32_t a, int32_t b) {
    const auto pages = [&batch](int32_t s) {
      return batch.pages.subspan(static_cast<size_t>(batch.page_indptr[s]),
                                 static_cast<size_t>(batch.page_indptr[s + 1] - batch.page_indptr[s]));
    };
    const std::span<const int32_t> x = pages(a), y = pages(b);
    const auto [i, j] = std::mismatch(x.begin(), x.end(), y.begin(), y.end());
    if (i != x.end() && j != y.end()) return *i < *j;
    if (x.size() != y.size()) return x.size() < y.size();
    return a < b;
  });
}

void AddTasks(const AttentionShape& shape, const Split& split, int32_t row_begin, int32_t num_rows, CpuPlan* plan) {
  int32_t last = 0;
  for (int32_t i = row_begin; i < row_begin + num_rows; ++i) last = std::max(last, plan->rows[i].position);
  const int32_t segments = last / kSegment + 1;
  const int32_t group = shape.query_heads / shape.kv_heads;
  const int32_t step = plan->partials ? 1 : segments;
  for (int32_t segment = 0; segment < segments; segment += step) {
    for (int32_t g = 0; g < shape.kv_heads; ++g) {
      for (int32_t h = 0; h < split.head_tasks; ++h) {
        const int32_t first = h * split.heads_per_task;
        plan->tasks.push_back({row_begin, num_rows, g, g * group + first, std::min(split.heads_per_task, group - first),
                               segment, segment + step});
      }
    }
  }
}

}  // namespace

void ReservePlan(const Ops::StepLimits& limits, const AttentionShape& shape, int32_t page_tokens, CpuPlan* plan) {
  const Split split = SplitHeads(shape);
  const int64_t tiles = (limits.tokens_max + split.tokens_per_task - 1) / split.tokens_per_task;
  const int64_t whole = tiles * shape.kv_heads * split.head_tasks;
  const int64_t segments = int64_t{limits.pages_max} * page_tokens / kSegment + 1;
  plan->rows.reserve(static_cast<size_t>(limits.tokens_max));
  plan->order.reserve(static_cast<size_t>(limits.sequences_max));
  plan->sequence_of_token.reserve(static_cast<size_t>(limits.tokens_max));
  plan->tasks.reserve(static_cast<size_t>(whole + kTasksPerThread * shape.threads * segments));
}

void PlanAttention(const AttentionShape& shape, CpuPlan* plan) {
  const StepBatch& batch = plan->batch;
  const Split split = SplitHeads(shape);
  OrderSequences(batch, &plan->order);
  plan->rows.clear();
  int64_t partials = 0;
  for (const int32_t s : plan->order) {
    for (int32_t t = batch.q_indptr[s]; t < batch.q_indptr[s + 1]; ++t) {
      plan->rows.push_back({t, batch.positions[t], &batch.pages[static_cast<size_t>(batch.page_indptr[s])], partials});
      partials += batch.positions[t] / kSegment + 1;
    }
  }
  const int32_t num_rows = static_cast<int32_t>(plan->rows.size());
  const int64_t tiles = (num_rows + split.tokens_per_task - 1) / split.tokens_per_task;
  plan->partials = partials > num_rows && partials <= shape.partials_max &&
                   tiles * shape.kv_heads * split.head_tasks < kTasksPerThread * shape.threads;
  plan->tasks.clear();
  // The last tokens of a prompt see the most positions: longest tasks first, so that no thread ends up waiting for one.
  for (int64_t tile = tiles - 1; tile >= 0; --tile) {
    const int32_t begin = static_cast<int32_t>(tile) * split.tokens_per_task;
    AddTasks(shape, split, begin, std::min(split.tokens_per_task, num_rows - begin), plan);
  }
}

}  // namespace conclave::engine::cpu
