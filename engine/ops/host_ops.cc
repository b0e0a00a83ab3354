// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/host_ops.h"

#include <algorithm>
#include <cstring>

#include "common/status.h"
#include "engine/quant/codec.h"

namespace conclave::engine {

namespace {

bool IsIntegerGroups(DType dtype) {
  return dtype == DType::kInt4_G32 || dtype == DType::kInt4_G64 || dtype == DType::kInt4_G128 ||
         dtype == DType::kInt8_G32 || dtype == DType::kInt8_G128;
}

absl::Status CheckOrder(const WeightSource& source, WeightUse use) {
  if (source.order.empty()) return absl::OkStatus();
  if (use != WeightUse::kMatmul || !IsIntegerGroups(source.dtype)) {
    return Unimplemented("a {} weight whose columns are in another order is supported in products only",
                         Name(source.dtype));
  }
  std::vector<bool> seen(source.order.size());
  for (const int32_t column : source.order) {
    if (column < 0 || static_cast<size_t>(column) >= seen.size() || seen[static_cast<size_t>(column)]) break;
    seen[static_cast<size_t>(column)] = true;
  }
  if (static_cast<int64_t>(seen.size()) == source.columns && std::find(seen.begin(), seen.end(), false) == seen.end()) {
    return absl::OkStatus();
  }
  return InvalidArgument("the order of {} columns is no permutation of {}", source.order.size(), source.columns);
}

}  // namespace

int64_t SourceBytes(const WeightSource& source) { return source.rows * RowBytes(source.dtype, source.columns); }

void ReadRows(const WeightSource& source, int64_t first, int64_t count, std::byte* out) {
  CONCLAVE_CHECK(first >= 0 && count >= 0 && first + count <= source.rows);
  if (source.reader != nullptr) return source.reader->Read(first, count, out);
  const size_t row_bytes = static_cast<size_t>(RowBytes(source.dtype, source.columns));
  const std::span<const std::byte> rows =
      source.bytes.subspan(static_cast<size_t>(first) * row_bytes, static_cast<size_t>(count) * row_bytes);
  std::copy(rows.begin(), rows.end(), out);
}

absl::Status CheckSources(std::span<const WeightSource> sources, WeightUse use) {
  if (sources.empty()) return InvalidArgument("a weight needs at least one source");
  for (const WeightSource& source : sources) {
    if (!quant::CanDecode(source.dtype)) {
      return Unimplemented("weights of format {} are not supported", Name(source.dtype));
    }
    if (source.columns <= 0 || source.rows <= 0 || !HasRowsOf(source.dtype, source.columns)) {
      return InvalidArgument("a {} weight of {} x {} is not possible: rows must be whole blocks of {}",
                             Name(source.dtype), source.rows, source.columns, Traits(source.dtype).block_elements);
    }
    RETURN_IF_ERROR(CheckOrder(source, use));
    if (use == WeightUse::kVector && source.rows != 1) {
      return InvalidArgument("a vector has one row, not {}", source.rows);
    }
    if (use != WeightUse::kVector && source.columns != sources[0].columns) {
      return InvalidArgument("stacked weights need equal columns: {} and {}", sources[0].columns, source.columns);
    }
    if (source.reader != nullptr) {
      if (source.bytes.empty()) continue;
      return InvalidArgument("a weight has its rows from bytes or from a reader, not both");
    }
    const size_t row_bytes = static_cast<size_t>(RowBytes(source.dtype, source.columns));
    if (source.bytes.size() / row_bytes != static_cast<size_t>(source.rows) || source.bytes.size() % row_bytes != 0) {
      return InvalidArgument("a {} weight of {} x {} has {} bytes, {} expected", Name(source.dtype), source.rows,
                             source.columns, source.bytes.size(), row_bytes * static_cast<size_t>(source.rows));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStack(std::span<const WeightSource> sources, int64_t count, StackUse use, WeightStack* stack) {
  if (count <= 0 || sources.empty() || sources.size() % static_cast<size_t>(count) != 0) {
    return InvalidArgument("{} matrices cannot be made from {} sources", count, sources.size());
  }
  const size_t parts = sources.size() / static_cast<size_t>(count);
  for (int64_t i = 0; i < count; ++i) {
    const std::span<const WeightSource> group = sources.subspan(static_cast<size_t>(i) * parts, parts);
    RETURN_IF_ERROR(CheckSources(group, WeightUse::kMatmul));
    for (const WeightSource& source : group) {
      if (use == StackUse::kExperts || source.order.empty()) continue;
      return Unimplemented("matrices per head whose columns are in another order are not supported");
    }
    int64_t rows = 0;
    for (const WeightSource& source : group) rows += source.rows;
    if (i == 0) {
      stack->count = count;
      stack->rows = rows;
      stack->columns = group[0].columns;
    }
    if (rows != stack->rows || group[0].columns != stack->columns) {
      return InvalidArgument("matrix {} of a stack is {} x {}, the first is {} x {}", i, rows, group[0].columns,
                             stack->rows, stack->columns);
    }
  }
  return absl::OkStatus();
}

void DecodeVector(std::span<const WeightSource> sources, float* out) {
  for (const WeightSource& source : sources) {
    std::vector<std::byte> row(static_cast<size_t>(SourceBytes(source)));
    ReadRows(source, 0, 1, row.data());
    quant::DecodeRow(source.dtype, row.data(), {out, static_cast<size_t>(source.columns)});
    out += source.columns;
  }
}

absl::Status CheckLimits(const Ops::StepLimits& limits, const KvLayout& layout) {
  if (limits.tokens_max <= 0 || limits.sequences_max <= 0 || limits.pages_max <= 0 || limits.query_heads <= 0 ||
      limits.experts_per_token < 0) {
    return InvalidArgument("step limits must be positive: {} tokens, {} sequences, {} pages, {} query heads",
                           limits.tokens_max, limits.sequences_max, limits.pages_max, limits.query_heads);
  }
  if (layout.kv_heads <= 0 || layout.dim_k <= 0 || layout.dim_v <= 0 || layout.page_tokens <= 0 ||
      limits.query_heads % layout.kv_heads != 0 || (layout.v_in_k && layout.dim_v > layout.dim_k)) {
    return InvalidArgument("KV layout is not possible: {} query heads, {} kv heads, widths {} and {}, {} tokens a page",
                           limits.query_heads, layout.kv_heads, layout.dim_k, layout.dim_v, layout.page_tokens);
  }
  return absl::OkStatus();
}

void CheckBatch(const StepBatch& batch, const Ops::StepLimits& limits) {
  const size_t tokens = batch.tokens.size();
  const size_t sequences = batch.kv_len.size();
  CONCLAVE_CHECK(tokens > 0 && tokens <= static_cast<size_t>(limits.tokens_max));
  CONCLAVE_CHECK(sequences > 0 && sequences <= static_cast<size_t>(limits.sequences_max));
  CONCLAVE_CHECK(batch.pages.size() <= static_cast<size_t>(limits.pages_max));
  CONCLAVE_CHECK(batch.logit_rows.size() <= static_cast<size_t>(limits.logit_rows_max));
  CONCLAVE_CHECK(batch.positions.size() == tokens && batch.kv_slots.size() == tokens);
  CONCLAVE_CHECK(batch.q_indptr.size() == sequences + 1 && batch.page_indptr.size() == sequences + 1);
  CONCLAVE_CHECK(batch.q_indptr[0] == 0 && batch.q_indptr[sequences] == static_cast<int32_t>(tokens));
  CONCLAVE_CHECK(batch.experts_per_token.empty() || batch.experts_per_token.size() == sequences);
  for (const int32_t row : batch.logit_rows) CONCLAVE_CHECK(row >= 0 && row < static_cast<int32_t>(tokens));
}

void CheckTerms(const AttentionTerms& terms, const Ops::StepLimits& limits) {
  CONCLAVE_CHECK(terms.window >= 0 && (terms.window == 0 || limits.attention_windows));
  if (terms.sinks == nullptr) return;
  CONCLAVE_CHECK(limits.attention_sinks && terms.sinks->rows == 1 && terms.sinks->columns == limits.query_heads);
}

void CheckRoute(const View& ids, const View& weights, const View& logits, const Weight* selection_bias,
                const RouterSpec& router) {
  CONCLAVE_CHECK(router.top_k >= 1 && router.groups >= 1 && router.experts % router.groups == 0);
  CONCLAVE_CHECK(router.top_groups >= 1 && router.top_groups <= router.groups);
  CONCLAVE_CHECK(router.top_k <= router.experts / router.groups * router.top_groups);
  CONCLAVE_CHECK(ids.dtype == DType::kI32 && ids.shape.back() == router.top_k && weights.shape == ids.shape);
  CONCLAVE_CHECK(logits.shape.back() == router.experts && logits.shape[0] == ids.shape[0]);
  CONCLAVE_CHECK(selection_bias == nullptr || selection_bias->columns == router.experts);
}

void CheckExpertFfn(const View& y, const View& x, const View& ids, const View& weights, const WeightStack& gate_up,
                    const WeightStack& down, const ExpertTerms& terms, const Ops::StepLimits& limits) {
  CONCLAVE_CHECK(y.shape == x.shape && y.data != x.data && x.shape.back() == gate_up.columns);
  CONCLAVE_CHECK(down.rows == y.shape.back() && gate_up.rows == 2 * down.columns && gate_up.count == down.count);
  CONCLAVE_CHECK(ids.dtype == DType::kI32 && ids.shape == weights.shape && ids.shape[0] == x.shape[0]);
  CONCLAVE_CHECK(ids.shape.back() <= limits.experts_per_token && x.shape[0] <= limits.tokens_max);
  CONCLAVE_CHECK(terms.gate_up_bias == nullptr || terms.gate_up_bias->columns == gate_up.count * gate_up.rows);
  CONCLAVE_CHECK(terms.down_bias == nullptr || terms.down_bias->columns == down.count * down.rows);
  CONCLAVE_CHECK(terms.activation.limit > 0 && terms.first_expert >= 0);
}

absl::StatusOr<View> HostOps::Allocate(DType dtype, Shape shape) {
  int64_t bytes = Traits(dtype).block_bytes;
  CONCLAVE_CHECK(Traits(dtype).block_elements == 1);
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] < 0 || __builtin_mul_overflow(bytes, shape[i], &bytes)) {
      return ResourceExhausted("a buffer of shape {} is not possible", shape.ToString());
    }
  }
  ASSIGN_OR_RETURN(std::byte * data, buffers_.Allocate(bytes));
  return View{data, dtype, shape};
}

absl::StatusOr<std::span<float>> HostOps::AllocateHost(int64_t elements) {
  ASSIGN_OR_RETURN(float* data, results_.AllocateArray<float>(elements));
  return std::span<float>(data, static_cast<size_t>(elements));
}

absl::Status HostOps::Prepare(const StepLimits& limits, const KvLayout& layout) {
  RETURN_IF_ERROR(CheckLimits(limits, layout));
  limits_ = limits;
  layout_ = layout;
  return absl::OkStatus();
}

void HostOps::FillPlan(const StepBatch& batch, HostPlan* plan) {
  CheckBatch(batch, limits_);
  plan->batch = batch;
  plan->sequence_of_token.resize(batch.tokens.size());
  for (size_t s = 0; s < batch.kv_len.size(); ++s) {
    for (int32_t t = batch.q_indptr[s]; t < batch.q_indptr[s + 1]; ++t) {
      plan->sequence_of_token[static_cast<size_t>(t)] = static_cast<int32_t>(s);
      // Every position attended lies in a page of the sequence.
      CONCLAVE_CHECK(batch.positions[t] >= 0 && batch.positions[t] < batch.kv_len[s] &&
                     batch.positions[t] / layout_.page_tokens < batch.page_indptr[s + 1] - batch.page_indptr[s]);
    }
  }
}

absl::Status HostOps::EndStep(const View& logits, std::span<float> host) {
  CONCLAVE_CHECK(static_cast<size_t>(logits.shape.elements()) == host.size() || host.empty());
  if (!host.empty()) std::memcpy(host.data(), logits.as<float>(), host.size_bytes());
  return absl::OkStatus();
}

absl::Status HostOps::Download(const View& from, std::span<std::byte> host) {
  CONCLAVE_CHECK(static_cast<int64_t>(host.size()) == from.shape.elements() * Traits(from.dtype).block_bytes);
  if (!host.empty()) std::memcpy(host.data(), from.data, host.size());
  return absl::OkStatus();
}

int32_t HostOps::ExpertsOf(const HostPlan& plan, int64_t t, const RouterSpec& router) {
  if (plan.batch.experts_per_token.empty()) return router.top_k;
  const int32_t k = plan.batch.experts_per_token[static_cast<size_t>(plan.sequence_of_token[static_cast<size_t>(t)])];
  CONCLAVE_CHECK(k >= 1 && k <= router.top_k);
  return k;
}

void HostOps::KvCopyPages(const View& pages, std::span<const int32_t> from, std::span<const int32_t> to) {
  CONCLAVE_CHECK(from.size() == to.size());
  const size_t page_bytes = static_cast<size_t>(pages.shape.back());
  for (size_t i = 0; i < from.size(); ++i) {
    CONCLAVE_CHECK(from[i] >= 0 && from[i] < pages.shape[0] && to[i] >= 0 && to[i] < pages.shape[0]);
    if (from[i] == to[i]) continue;
    std::memcpy(pages.data + static_cast<size_t>(to[i]) * page_bytes,
                pages.data + static_cast<size_t>(from[i]) * page_bytes, page_bytes);
  }
}

void HostOps::GatherRows(const View& y, const View& x, const AttentionPlan& plan) {
  const StepBatch& batch = static_cast<const HostPlan&>(plan).batch;
  const size_t row_bytes = static_cast<size_t>(x.shape.back()) * sizeof(float);
  for (size_t o = 0; o < batch.logit_rows.size(); ++o) {
    std::memcpy(y.row(static_cast<int64_t>(o)), x.row(batch.logit_rows[o]), row_bytes);
  }
}

}  // namespace conclave::engine
