// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/cpu_experts.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/check.h"
#include "common/status.h"

namespace conclave::engine::cpu {
namespace {

// Pairs of a chunk: enough that many experts are at work together, few enough for the cache to hold their rows.
constexpr int64_t kChunkPairs = 1024;
constexpr int64_t kTasksPerThread = 8;

// The open entry with the largest value, of equal ones the first; a not-a-number is taken last. There is one.
int32_t Best(const float* values, const float* open, int32_t n) {
  int32_t best = -1;
  for (int32_t i = 0; i < n; ++i) {
    if (open[i] == 0) continue;
    if (best < 0 || values[i] > values[best] || std::isnan(values[best])) best = i;
  }
  CONCLAVE_CHECK(best >= 0);
  return best;
}

// Opens the experts of the best groups.
void OpenGroups(const RouterSpec& router, const float* choices, float* open, float* scratch) {
  const int32_t size = router.experts / router.groups;
  float* scores = scratch;
  float* groups_open = scratch + router.groups;
  std::fill_n(open, router.experts, router.groups == router.top_groups ? 1.0f : 0.0f);
  if (router.groups == router.top_groups) return;
  for (int32_t g = 0; g < router.groups; ++g) {
    float first = -INFINITY, second = -INFINITY;
    for (int32_t i = 0; i < size; ++i) {
      const float value = choices[g * size + i];
      second = std::max(second, std::min(first, value));
      first = std::max(first, value);
    }
    const bool both = router.group_score == RouterSpec::GroupScore::kTopTwoSum && size > 1;
    scores[g] = both ? first + second : first;
  }
  std::fill_n(groups_open, router.groups, 1.0f);
  for (int32_t i = 0; i < router.top_groups; ++i) {
    const int32_t g = Best(scores, groups_open, router.groups);
    groups_open[g] = 0;
    std::fill_n(open + g * size, size, 1.0f);
  }
}

}  // namespace

void RouteToken(const RouterSpec& router, const float* logits, const float* bias, int32_t live, int32_t* ids,
                float* weights, float* scratch) {
  const int32_t experts = router.experts;
  const bool softmax = router.scores == RouterSpec::Scores::kSoftmax;
  float* scores = scratch;
  float* choices = scores + experts;
  float* open = choices + experts;
  // Neither function changes the order of the logits, which are finer than the scores they give.
  const float top = *std::max_element(logits, logits + experts);
  float sum = 0;
  for (int32_t e = 0; e < experts; ++e) {
    scores[e] = softmax ? std::exp(logits[e] - top) : 1.0f / (1.0f + std::exp(-logits[e]));
    sum += scores[e];
  }
  const bool by_logits = bias == nullptr && (softmax || router.group_score == RouterSpec::GroupScore::kMax);
  for (int32_t e = 0; e < experts; ++e) {
    if (softmax) scores[e] /= sum;
    choices[e] = by_logits ? logits[e] : scores[e] + (bias == nullptr ? 0.0f : bias[e]);
  }
  OpenGroups(router, choices, open, open + experts);
  float total = router.sum_epsilon;
  for (int32_t slot = 0; slot < router.top_k; ++slot) {
    ids[slot] = -1;
    weights[slot] = 0;
    if (slot >= live) continue;
    const int32_t e = Best(choices, open, experts);
    open[e] = 0;
    ids[slot] = e;
    weights[slot] = scores[e];
    total += scores[e];
  }
  for (int32_t slot = 0; slot < live; ++slot) {
    weights[slot] = weights[slot] / (router.normalise ? total : 1.0f) * router.scale;
  }
}

absl::Status ExpertRunner::Prepare(int64_t tokens_max, int64_t slots_max, const ExpertSizes& sizes,
                                   HostMemory* memory) {
  const int64_t pairs_max = tokens_max * slots_max;
  chunk_ = std::min(pairs_max, kChunkPairs);
  // A margin, since kernels read whole vectors.
  ASSIGN_OR_RETURN(rows_, memory->AllocateArray<float>(chunk_ * sizes.columns + 16));
  ASSIGN_OR_RETURN(products_, memory->AllocateArray<float>(chunk_ * sizes.rows + 16));
  if (kernels_.repacks) {
    ASSIGN_OR_RETURN(blocks_, memory->AllocateArray<ActivationBlock>(chunk_ * sizes.row_blocks));
  }
  pairs_.reserve(static_cast<size_t>(pairs_max));
  starts_.reserve(static_cast<size_t>(sizes.experts) + 1);
  buckets_.reserve(static_cast<size_t>(sizes.experts));
  work_.reserve(static_cast<size_t>(2 * sizes.experts + kTasksPerThread * pool_->threads() + chunk_ / kRowBlock + 1));
  return absl::OkStatus();
}

// A counting sort.
void ExpertRunner::Sort(const Call& call) {
  const int64_t experts = call.gate_up->count;
  starts_.assign(static_cast<size_t>(experts) + 1, 0);
  const int64_t slots = call.tokens * call.slots;
  // The stack's number of a slot's expert; skipped slots and experts of others have none.
  const auto expert_of = [&](int64_t slot) -> int32_t {
    const int32_t expert = call.ids[slot] - call.first_expert;
    return call.ids[slot] >= 0 && expert >= 0 && expert < experts ? expert : -1;
  };
  for (int64_t i = 0; i < slots; ++i) {
    if (const int32_t expert = expert_of(i); expert >= 0) ++starts_[static_cast<size_t>(expert) + 1];
  }
  buckets_.clear();
  for (int64_t e = 0; e < experts; ++e) {
    const size_t i = static_cast<size_t>(e);
    if (starts_[i + 1] > 0) buckets_.push_back({static_cast<int32_t>(e), starts_[i], starts_[i] + starts_[i + 1]});
    starts_[i + 1] += starts_[i];
  }
  pairs_.resize(static_cast<size_t>(starts_.back()));
  for (int64_t i = 0; i < slots; ++i) {
    const int32_t expert = expert_of(i);
    if (expert < 0) continue;
    const int32_t place = starts_[static_cast<size_t>(expert)]++;
    pairs_[static_cast<size_t>(place)] = {static_cast<int32_t>(i / call.slots), expert, call.weights[i]};
  }
}

void ExpertRunner::Run(const Call& call, absl::FunctionRef<float*(int)> scratch) {
  Sort(call);
  const int64_t width = call.down->rows;
  if (!call.accumulate) std::memset(call.y, 0, static_cast<size_t>(call.tokens * width) * sizeof(float));
  const int64_t pairs = static_cast<int64_t>(pairs_.size());
  size_t bucket = 0;
  for (int64_t begin = 0; begin < pairs; begin += chunk_) {
    while (buckets_[bucket].end <= begin) ++bucket;
    RunChunk(call, bucket, begin, std::min(begin + chunk_, pairs), scratch);
  }
}

void ExpertRunner::RunChunk(const Call& call, size_t first_bucket, int64_t begin, int64_t end,
                            absl::FunctionRef<float*(int)> scratch) {
  const int64_t inputs = call.gate_up->columns, hidden = call.down->columns, outputs = call.down->rows;
  const int64_t count = end - begin;
  const Pair* pairs = pairs_.data() + begin;
  const ActivationTerms activation = {call.activation.alpha, call.activation.limit, call.activation.up_offset};
  pool_->ForRows(count, inputs, [&](int64_t i) {
    const float* x = call.x + pairs[i].token * inputs;
    if (call.gate_up->has_floats) std::copy_n(x, inputs, rows_ + i * inputs);
    Quantize(*call.gate_up, pairs[i], i, x);
  });
  Multiply(*call.gate_up, first_bucket, begin, end, scratch);
  pool_->ForRows(count, 4 * hidden, [&](int64_t i) {
    float* gate = products_ + i * 2 * hidden;
    float* activated = rows_ + i * hidden;
    if (call.gate_up_bias != nullptr) {
      kernels_.add(gate, call.gate_up_bias + int64_t{pairs[i].expert} * 2 * hidden, 2 * hidden);
    }
    kernels_.swiglu(activated, gate, gate + hidden, hidden, activation);
    Quantize(*call.down, pairs[i], i, activated);
  });
  Multiply(*call.down, first_bucket, begin, end, scratch);
  // Threads take columns, so that each token's sum is one thread's.
  const int64_t lines = (outputs + 63) / 64;
  pool_->ForRows(lines, 64 * count, [&](int64_t line) {
    const int64_t column = 64 * line, n = std::min<int64_t>(64, outputs - column);
    for (int64_t i = 0; i < count; ++i) {
      float* product = products_ + i * outputs + column;
      if (call.down_bias != nullptr) kernels_.add(product, call.down_bias + pairs[i].expert * outputs + column, n);
      kernels_.add_scaled(call.y + pairs[i].token * outputs + column, product, pairs[i].weight, n);
    }
  });
}

void ExpertRunner::Quantize(const CpuStack& stack, const Pair& pair, int64_t i, const float* x) {
  const CpuWeight& item = *stack.items[static_cast<size_t>(pair.expert)];
  if (!item.has_blocks) return;
  for (const int32_t* order : item.orders) {
    kernels_.quantize_row(x, order, stack.columns, blocks_ + i * (stack.columns / 32));
    i += chunk_;
  }
}

// products_ = rows_ times each pair's matrix of the stack.
void ExpertRunner::Multiply(const CpuStack& stack, size_t first_bucket, int64_t begin, int64_t end,
                            absl::FunctionRef<float*(int)> scratch) {
  const GemmOperands operands = {.x = rows_,
                                 .x_stride = stack.columns,
                                 .blocks = blocks_,
                                 .input_blocks = chunk_ * (stack.columns / 32),
                                 .y = products_,
                                 .y_stride = stack.rows,
                                 .accumulate = false};
  // Little work stays on this thread, one piece after another.
  const bool serial = (end - begin) * stack.rows * stack.columns < 8 * ThreadPool::kSerialElements;
  // Few rows cost what reading the weights costs.
  const auto cost = [](int64_t rows) { return std::max<int64_t>(rows, 4); };
  int64_t total = 0;
  const auto for_pieces = [&](auto body) {
    for (size_t b = first_bucket; b < buckets_.size() && buckets_[b].begin < end; ++b) {
      const int64_t piece_end = std::min(buckets_[b].end, end) - begin;
      for (int64_t m = std::max(buckets_[b].begin, begin) - begin; m < piece_end; m += kRowBlock) {
        body(buckets_[b].expert, m, std::min(m + kRowBlock, piece_end));
      }
    }
  };
  for_pieces([&](int32_t, int64_t m_begin, int64_t m_end) { total += cost(m_end - m_begin); });
  work_.clear();
  for_pieces([&](int32_t expert, int64_t m_begin, int64_t m_end) {
    const int64_t group_pairs = (stack.items[static_cast<size_t>(expert)]->groups + 1) / 2;
    const int64_t wanted = kTasksPerThread * pool_->threads() * cost(m_end - m_begin) / total;
    const int64_t tasks = serial ? 1 : std::clamp<int64_t>(wanted, 1, group_pairs);
    for (int64_t i = 0; i < tasks; ++i) {
      work_.push_back({expert, {2 * (group_pairs * i / tasks), 2 * (group_pairs * (i + 1) / tasks), m_begin, m_end}});
    }
  });
  const int64_t pieces = static_cast<int64_t>(work_.size()), calls = serial ? 1 : pieces;
  pool_->ParallelFor(calls, [&](int64_t call, int thread) {
    for (int64_t i = serial ? 0 : call; i < (serial ? pieces : call + 1); ++i) {
      const Work& work = work_[static_cast<size_t>(i)];
      RunGemm(kernels_, *stack.items[static_cast<size_t>(work.expert)], operands, work.range, scratch(thread));
    }
  });
}

}  // namespace conclave::engine::cpu
