// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/status.h"

namespace conclave::engine::cpu {
namespace {

// Room for attention partials; steps that need more do whole sequences per task instead.
constexpr int64_t kPartialsBytesMax = int64_t{8} << 20;
constexpr int kRopeTablesMax = 4;
constexpr ActivationTerms kSilu = {1.0f, std::numeric_limits<float>::infinity(), 0.0f};

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

// ---- Startup

absl::StatusOr<const Weight*> CpuOps::MakeWeight(std::span<const WeightSource> sources, WeightUse use) {
  RETURN_IF_ERROR(CheckSources(sources, use));
  ASSIGN_OR_RETURN(const CpuWeight* weight, weights_.Add(sources, use, kernels_.repacks, &pool_));
  k_max_ = std::max(k_max_, weight->columns);
  row_blocks_max_ =
      std::max(row_blocks_max_, (weight->columns + 31) / 32 * static_cast<int64_t>(weight->orders.size()));
  weight_bytes_ = weights_.bytes();
  return weight;
}

absl::StatusOr<const WeightStack*> CpuOps::MakeWeightStack(std::span<const WeightSource> sources, int64_t count,
                                                           StackUse use) {
  CpuStack shape;
  RETURN_IF_ERROR(CheckStack(sources, count, use, &shape));
  ASSIGN_OR_RETURN(const CpuStack* stack, weights_.AddStack(sources, shape, kernels_.repacks, &pool_));
  k_max_ = std::max(k_max_, stack->columns);
  weight_bytes_ = weights_.bytes();
  if (use == StackUse::kHeads) {
    if (stack->has_blocks) head_blocks_max_ = std::max(head_blocks_max_, count * (stack->columns / 32));
  } else {
    expert_sizes_ = {std::max(expert_sizes_.experts, count), std::max(expert_sizes_.rows, stack->rows),
                     std::max(expert_sizes_.columns, stack->columns),
                     std::max(expert_sizes_.row_blocks, stack->inputs * ((stack->columns + 31) / 32))};
  }
  return stack;
}

absl::Status CpuOps::Prepare(const StepLimits& limits, const KvLayout& layout) {
  RETURN_IF_ERROR(HostOps::Prepare(limits, layout));
  if (layout.page_tokens % kTile != 0) {
    return InvalidArgument("KV pages of {} tokens: the {} kernels need a multiple of {}", layout.page_tokens,
                           kernels_.name, kTile);
  }
  const int32_t group = limits.query_heads / layout.kv_heads;
  const int32_t rows = std::max(kAttendRows, std::min(group, kAttendRows));
  scratch_floats_ = RoundUp(std::max({kernels_.attend_scratch_floats(layout.dim_k, DimVPadded(), rows), 2 * k_max_ + 32,
                                      RouteScratchFloats(expert_sizes_.experts)}),
                            16) +
                    64;
  ASSIGN_OR_RETURN(scratch_, buffers_.AllocateArray<float>(scratch_floats_ * pool_.threads()));
  if (kernels_.repacks) {
    const int64_t rows_max = std::max(limits.tokens_max, limits.logit_rows_max);
    ASSIGN_OR_RETURN(blocks_, buffers_.AllocateArray<ActivationBlock>(rows_max * row_blocks_max_));
    ASSIGN_OR_RETURN(head_blocks_,
                     buffers_.AllocateArray<ActivationBlock>(int64_t{limits.tokens_max} * head_blocks_max_));
  }
  if (limits.experts_per_token > 0) {
    RETURN_IF_ERROR(experts_.Prepare(limits.tokens_max, limits.experts_per_token, expert_sizes_, &buffers_));
  }
  const int64_t partial_floats = int64_t{limits.query_heads} * (2 + DimVPadded());
  const int64_t possible = int64_t{limits.tokens_max} * (int64_t{limits.pages_max} * layout.page_tokens / kSegment + 1);
  partials_max_ = std::min(possible, kPartialsBytesMax / (partial_floats * static_cast<int64_t>(sizeof(float))));
  ASSIGN_OR_RETURN(partials_, buffers_.AllocateArray<float>(partials_max_ * partial_floats + 16));
  plan_.rope_tables.resize(kRopeTablesMax);
  for (RopeTable& table : plan_.rope_tables) {
    ASSIGN_OR_RETURN(table.cosine, buffers_.AllocateArray<float>(int64_t{limits.tokens_max} * layout.dim_k + 16));
    ASSIGN_OR_RETURN(table.sine, buffers_.AllocateArray<float>(int64_t{limits.tokens_max} * layout.dim_k + 16));
  }
  ReservePlan(limits, Shape(), layout.page_tokens, &plan_);
  return absl::OkStatus();
}

const AttentionPlan& CpuOps::BeginStep(const StepBatch& batch) {
  FillPlan(batch, &plan_);
  PlanAttention(Shape(), &plan_);
  plan_.num_rope_tables = 0;
  return plan_;
}

// ---- Row-wise ops

void CpuOps::Embed(const View& y, const Weight& table, const AttentionPlan& plan) {
  const StepBatch& batch = static_cast<const CpuPlan&>(plan).batch;
  const CpuWeight& weight = static_cast<const CpuWeight&>(table);
  CONCLAVE_CHECK(y.shape.back() == weight.columns);
  ForRows(static_cast<int64_t>(batch.tokens.size()), weight.columns, [&](int64_t t) {
    CONCLAVE_CHECK(batch.tokens[t] >= 0 && batch.tokens[t] < weight.rows);
    DecodeWeightRow(weight, batch.tokens[t], y.row(t));
  });
}

void CpuOps::AddRmsNorm(const View& residual, const View& y, const View& x, const Weight& gain, float eps) {
  const int64_t width = residual.shape.back();
  CONCLAVE_CHECK(gain.columns == width && y.shape.back() == width);
  const float* values = static_cast<const CpuWeight&>(gain).vector;
  CONCLAVE_CHECK(values != nullptr);
  ForRows(residual.shape[0], width, [&](int64_t t) {
    kernels_.rms_norm(y.row(t), residual.row(t), x.empty() ? nullptr : x.row(t), values, width, eps);
  });
}

void CpuOps::AddBias(const View& y, const Weight& bias) {
  const int64_t width = y.shape.back();
  CONCLAVE_CHECK(bias.columns == width);
  const float* values = static_cast<const CpuWeight&>(bias).vector;
  CONCLAVE_CHECK(values != nullptr);
  ForRows(y.shape[0], width, [&](int64_t t) { kernels_.add(y.row(t), values, width); });
}

void CpuOps::HeadRmsNorm(const View& x, int64_t row_stride, const Weight& gain, float eps) {
  const int64_t heads = x.shape[1], width = x.shape[2];
  CONCLAVE_CHECK(gain.columns == width);
  const float* values = static_cast<const CpuWeight&>(gain).vector;
  CONCLAVE_CHECK(values != nullptr);
  ForRows(x.shape[0], heads * width, [&](int64_t t) {
    for (int64_t h = 0; h < heads; ++h) {
      float* head = x.as<float>() + t * row_stride + h * width;
      kernels_.rms_norm(head, head, nullptr, values, width, eps);
    }
  });
}

void CpuOps::SwiGlu(const View& y, const View& gate_up) {
  const int64_t width = y.shape.back();
  CONCLAVE_CHECK(gate_up.shape.back() == 2 * width);
  ForRows(y.shape[0], 4 * width,
          [&](int64_t t) { kernels_.swiglu(y.row(t), gate_up.row(t), gate_up.row(t) + width, width, kSilu); });
}

// Computed once per step and spec, then used by every layer, for queries and for keys.
const RopeTable& CpuOps::FindRopeTable(const RopeSpec& spec, CpuPlan* plan) {
  for (int i = 0; i < plan->num_rope_tables; ++i) {
    const RopeSpec& known = plan->rope_tables[i].spec;
    if (known.layout == spec.layout && known.rotated == spec.rotated && known.magnitude == spec.magnitude &&
        known.inverse_frequency.data() == spec.inverse_frequency.data()) {
      return plan->rope_tables[i];
    }
  }
  const int64_t pairs = spec.rotated / 2;
  CONCLAVE_CHECK(spec.rotated % 2 == 0 && spec.rotated <= layout_.dim_k &&
                 spec.inverse_frequency.size() == static_cast<size_t>(pairs));
  if (plan->num_rope_tables == kRopeTablesMax) plan->num_rope_tables = 0;  // more kinds than room: compute again
  RopeTable& table = plan->rope_tables[plan->num_rope_tables++];
  table.spec = spec;
  table.width = spec.layout == RopeLayout::kInterleaved ? spec.rotated : spec.rotated / 2;
  const std::span<const int32_t> positions = plan->batch.positions;
  ForRows(static_cast<int64_t>(positions.size()), 32 * pairs, [&](int64_t t) {
    float* cosine = table.cosine + t * table.width;
    float* sine = table.sine + t * table.width;
    for (int64_t i = 0; i < pairs; ++i) {
      const double angle = double{spec.inverse_frequency[i]} * positions[t];
      const float c = static_cast<float>(std::cos(angle) * spec.magnitude);
      const float s = static_cast<float>(std::sin(angle) * spec.magnitude);
      if (spec.layout == RopeLayout::kInterleaved) {
        cosine[2 * i] = cosine[2 * i + 1] = c;
        sine[2 * i] = -s;
        sine[2 * i + 1] = s;
      } else {
        cosine[i] = c;
        sine[i] = s;
      }
    }
  });
  return table;
}

void CpuOps::Rope(const View& x, int64_t row_stride, const RopeSpec& rope, const AttentionPlan& plan) {
  CONCLAVE_CHECK(&plan == &plan_);
  const RopeTable& table = FindRopeTable(rope, &plan_);
  const int64_t heads = x.shape[1], width = x.shape[2];
  CONCLAVE_CHECK(rope.rotated <= width && x.shape[0] == static_cast<int64_t>(plan_.batch.positions.size()));
  const auto kernel = rope.layout == RopeLayout::kInterleaved ? kernels_.rope_interleaved : kernels_.rope_half_split;
  ForRows(x.shape[0], heads * width, [&](int64_t t) {
    for (int64_t h = 0; h < heads; ++h) {
      kernel(x.as<float>() + t * row_stride + h * width, table.cosine + t * table.width, table.sine + t * table.width,
             rope.rotated);
    }
  });
}

// ---- Attention

// A page: per kv head, keys as [B / 16][Dk][16], then values as [B][Dv rounded up to 16]. With v_in_k the values are
// stored a second time, row by row, as the kernels read them.
int64_t CpuOps::kv_page_bytes(const KvLayout& layout) const { return RoundUp(layout.kv_heads * HeadBytes(layout), 64); }

void CpuOps::KvWrite(const View& pages, const View& k, const View& v, int64_t row_stride, const AttentionPlan& plan) {
  const StepBatch& batch = static_cast<const CpuPlan&>(plan).batch;
  const int64_t head_bytes = HeadBytes(layout_), page_bytes = pages.shape.back();
  const int64_t value_offset = int64_t{layout_.page_tokens} * layout_.dim_k * kernels_.kv_element_bytes;
  CONCLAVE_CHECK(page_bytes == kv_page_bytes(layout_) && v.empty() == layout_.v_in_k);
  const float* values = layout_.v_in_k ? k.as<float>() : v.as<float>();
  const int32_t value_stride = layout_.v_in_k ? layout_.dim_k : layout_.dim_v;
  ForRows(k.shape[0], 4 * int64_t{layout_.kv_heads} * layout_.dim_k, [&](int64_t t) {
    const int32_t page = batch.kv_slots[t] / layout_.page_tokens, offset = batch.kv_slots[t] % layout_.page_tokens;
    CONCLAVE_CHECK(page >= 0 && page < pages.shape[0]);
    for (int32_t g = 0; g < layout_.kv_heads; ++g) {
      kernels_.kv_write(pages.data + page * page_bytes + g * head_bytes, value_offset, offset,
                        k.as<float>() + t * row_stride + g * layout_.dim_k, layout_.dim_k,
                        values + t * row_stride + g * value_stride, layout_.dim_v, DimVPadded());
    }
  });
}

void CpuOps::Attention(const View& y, const View& q, int64_t q_row_stride, const View& pages,
                       const AttentionTerms& terms, const AttentionPlan& plan) {
  CONCLAVE_CHECK(&plan == &plan_);
  CheckTerms(terms, limits_);
  AttendArgs common = {};
  common.window = terms.window == 0 ? INT32_MAX : terms.window;
  if (terms.sinks != nullptr) common.sinks = static_cast<const CpuWeight*>(terms.sinks)->vector;
  common.q = q.as<float>();
  common.q_stride = q_row_stride;
  common.pages = pages.data;
  common.page_bytes = pages.shape.back();
  common.head_bytes = HeadBytes(layout_);
  common.value_offset = int64_t{layout_.page_tokens} * layout_.dim_k * kernels_.kv_element_bytes;
  common.page_tokens = layout_.page_tokens;
  common.dim_k = layout_.dim_k;
  common.dim_v = layout_.dim_v;
  common.dim_v_padded = DimVPadded();
  common.scale = layout_.scale;
  common.heads = limits_.query_heads;
  common.y = y.as<float>();
  common.partials = plan_.partials ? partials_ : nullptr;
  const int64_t num_tasks = static_cast<int64_t>(plan_.tasks.size());
  const int64_t calls = std::min(num_tasks, ThreadPool::kTasksMax);
  pool_.ParallelFor(calls, [&](int64_t call, int thread) {
    for (int64_t i = num_tasks * call / calls; i < num_tasks * (call + 1) / calls; ++i) {
      const AttentionTask& task = plan_.tasks[static_cast<size_t>(i)];
      AttendArgs args = common;
      args.kv_head = task.kv_head;
      args.head_begin = task.head_begin;
      args.head_count = task.head_count;
      args.rows = &plan_.rows[static_cast<size_t>(task.row_begin)];
      args.num_rows = task.num_rows;
      args.segment_begin = task.segment_begin;
      args.segment_end = task.segment_end;
      args.scratch = Scratch(thread);
      kernels_.attend(args);
    }
  });
  if (!plan_.partials) return;
  common.head_count = limits_.query_heads;
  ForRows(static_cast<int64_t>(plan_.rows.size()), int64_t{limits_.query_heads} * DimVPadded() * 4,
          [&](int64_t i) { kernels_.merge(common, plan_.rows[static_cast<size_t>(i)]); });
}

std::unique_ptr<Ops> MakeCpuOps(const Kernels& kernels, int threads) {
  return std::make_unique<CpuOps>(kernels, threads);
}

}  // namespace conclave::engine::cpu
