// SPDX-License-Identifier: Apache-2.0
// From a recorded call to kernels on the stream.
#include <algorithm>

#include "common/check.h"
#include "common/status.h"
#include "engine/ops/cuda/cuda_backend.h"

namespace conclave::engine::cuda {
namespace {

constexpr double kLog2E = 1.4426950408889634;
// Rows up to which block formats are multiplied as they are, 64 rows at a time, instead of being dequantised first
// (which reads 0.56 bytes per 4-bit weight, then writes and reads 2).
constexpr int64_t kRepeatedQuantRowsMax = 256;
constexpr int64_t kRepeatedHalfRowsMax = 6;

const CudaWeight& WeightOf(const void* p) { return *static_cast<const CudaWeight*>(p); }

}  // namespace

void CudaOps::BeginIssue() {
  shadow_of_ = nullptr;
  for (const auto& rope : ropes_) rope->ready = false;
}

void CudaOps::Wrote(const void* y) {
  if (y == shadow_of_) shadow_of_ = nullptr;
}

Shadow CudaOps::NewShadow(const void* y, int64_t rows, int64_t width) {
  const int64_t stride = RoundUpTo(width, kTileColumns);
  if ((!weights_.has_blocks() && room_.pairs == 0 && rows <= kGemvRowsMax) || rows * stride > shadow_elements_)
    return {};
  shadow_of_ = y;
  shadow_rows_ = rows;
  shadow_width_ = width;
  return {shadow_, stride};
}

Shadow CudaOps::ShadowOf(const void* x, int64_t rows, int64_t width) {
  const int64_t stride = RoundUpTo(width, kTileColumns);
  if (x == shadow_of_ && rows == shadow_rows_ && width == shadow_width_) return {shadow_, stride};
  CONCLAVE_CHECK(rows * stride <= shadow_elements_);
  shadow_of_ = x;
  shadow_rows_ = rows;
  shadow_width_ = width;
  MakeShadow(stream_, Floats(x), rows, width, {shadow_, stride});
  return {shadow_, stride};
}

void CudaOps::Issue(const OpRecord& r) {
  if (!fault_.ok()) return;
  float* y = Mutable(r.pointers[0]);
  const int32_t* step = step_words_;
  switch (r.kind) {
    case OpKind::kEmbed:
      Wrote(y);
      for (const WeightPart& part : WeightOf(r.pointers[1]).parts) {
        EmbedRows(stream_, y, part, step + step_.offsets.tokens, r.sizes[0]);
      }
      break;
    case OpKind::kAddRmsNorm:
      IssueAddRmsNorm(r);
      break;
    case OpKind::kGemm:
      IssueGemm(r);
      break;
    case OpKind::kAddBias:
      Wrote(y);
      AddBiasRows(stream_, y, WeightOf(r.pointers[1]).vector, r.sizes[0], r.sizes[1]);
      break;
    case OpKind::kHeadRmsNorm:
      Wrote(y);
      HeadRmsNormRows(stream_, y, r.sizes[0], WeightOf(r.pointers[1]).vector, r.numbers[0], r.sizes[1], r.sizes[2],
                      r.sizes[3]);
      break;
    case OpKind::kRope:
      IssueRope(r);
      break;
    case OpKind::kKvWrite:
      IssueKvWrite(r);
      break;
    case OpKind::kAttention:
      IssueAttention(r);
      break;
    case OpKind::kSwiGlu:
      Wrote(y);
      SwiGluRows(stream_, y, Floats(r.pointers[1]), r.sizes[0], r.sizes[1], NewShadow(y, r.sizes[0], r.sizes[1]));
      break;
    case OpKind::kSigmoidGate:
      Wrote(y);
      SigmoidGateRows(stream_, y, Floats(r.pointers[1]), r.sizes[0], r.sizes[1]);
      break;
    case OpKind::kGatherRows:
      Wrote(y);
      GatherRowsOf(stream_, y, Floats(r.pointers[1]), step + step_.offsets.logit_rows, r.sizes[0], r.sizes[1],
                   NewShadow(y, r.sizes[0], r.sizes[1]));
      break;
    case OpKind::kHeadGemm:
      IssueHeadGemm(r);
      break;
    case OpKind::kRoute:
      IssueRoute(r);
      break;
    case OpKind::kExpertFfn:
      IssueExpertFfn(r, nullptr, nullptr);
      break;
  }
  NoteLast("starting a kernel");
}

void CudaOps::IssueAddRmsNorm(const OpRecord& r) {
  float *residual = Mutable(r.pointers[0]), *y = Mutable(r.pointers[1]);
  Wrote(residual);
  Wrote(y);
  AddRmsNormRows(stream_, residual, y, Floats(r.pointers[2]), WeightOf(r.pointers[3]).vector, r.numbers[0], r.sizes[0],
                 r.sizes[1], NewShadow(y, r.sizes[0], r.sizes[1]));
}

void CudaOps::IssueGemm(const OpRecord& r) {
  const CudaWeight& weight = WeightOf(r.pointers[2]);
  float* y = Mutable(r.pointers[0]);
  for (const WeightPart& part : weight.parts) {
    MultiplyPart({y + part.first_row, weight.rows, Floats(r.pointers[1]), {}, r.sizes[0], r.flag != 0}, part);
  }
  Wrote(y);
}

void CudaOps::MultiplyPart(const Product& product, const WeightPart& part) {
  const bool block = part.shape.format.code_bits != 0;
  const int64_t m = product.m, step = block ? kQuantGemmRowsMax : kGemvRowsMax;
  const int64_t repeated = block                       ? kRepeatedQuantRowsMax
                           : part.dtype == DType::kF16 ? kRepeatedHalfRowsMax
                                                       : kGemvRowsMax;
  if (m > repeated) return MultiplyLarge(product, part);
  const Shadow shadow = block ? ShadowOf(product.x, m, part.columns) : Shadow{};
  for (int64_t row = 0; row < m; row += step) {
    Product some = product;
    some.m = std::min(step, m - row);
    some.y += row * product.y_stride;
    some.x += row * part.columns;
    some.shadow = {shadow.data + row * shadow.stride, shadow.stride};
    if (!block) {
      PlainGemv(stream_, some, part);
    } else if (some.m <= kQuantGemvRowsMax) {
      QuantGemv(stream_, some, part);
    } else {
      QuantGemm(stream_, some, part, split_sums_, kQuantGemmPartialElements);
    }
  }
}

void CudaOps::MultiplyLarge(const Product& product, const WeightPart& part) {
  if (part.dtype == DType::kF32) return F32Gemm(stream_, product, part);
  const Shadow shadow = ShadowOf(product.x, product.m, part.columns);
  BlasProduct p = {.y = product.y,
                   .x = shadow.data,
                   .w = reinterpret_cast<const uint16_t*>(part.data),
                   .m = product.m,
                   .n = part.rows,
                   .k = part.columns,
                   .y_stride = product.y_stride,
                   .x_stride = shadow.stride,
                   .w_stride = PlainStride(part.columns),
                   .add = product.add};
  if (part.dtype == DType::kBF16) return Note(blas_->Multiply(p, stream_.stream));
  p.w = dequantized_;
  p.w_stride = RoundUpTo(part.columns, kTileColumns);
  const int64_t rows = std::max<int64_t>(kTileRows, dequantized_elements_ / p.w_stride / kTileRows * kTileRows);
  for (int64_t begin = 0; begin < part.rows; begin += rows) {
    p.n = std::min(rows, part.rows - begin);
    p.y = product.y + begin;
    DequantizeRows(stream_, part, begin, begin + p.n, dequantized_, p.w_stride);
    Note(blas_->Multiply(p, stream_.stream));
  }
}

void CudaOps::IssueAll(std::span<const OpRecord> records) {
  while (!records.empty()) {
    if (const ExpertFusion experts = MatchExperts(records); experts.calls > 0 && RoutesInside(experts)) {
      if (fault_.ok()) IssueExpertFfn(*experts.experts, experts.route, experts.norm);
      NoteLast("starting a kernel");
      records = records.subspan(experts.calls);
      continue;
    }
    const HeadFusion heads = MatchHeads(records, limits_.query_heads, kv_);
    if (heads.calls == 0) {
      Issue(records[0]);
      records = records.subspan(1);
      continue;
    }
    const OpRecord& q = *heads.q_rope;
    const RopeTableOf& rope = ReadyRope(q.flag >> 1);
    Wrote(q.pointers[0]);
    FusedHeads h = {};
    h.q = Mutable(q.pointers[0]);
    h.row_stride = q.sizes[0];
    h.tokens = q.sizes[1];
    h.query_heads = q.sizes[2];
    h.width = q.sizes[3];
    h.pairs = static_cast<int64_t>(rope.frequency.size());
    h.interleaved = (q.flag & 1) != 0;
    h.rope = rope.table;
    if (heads.q_norm != nullptr) {
      h.q_gain = WeightOf(heads.q_norm->pointers[1]).vector;
      h.k_gain = WeightOf(heads.k_norm->pointers[1]).vector;
      h.q_eps = heads.q_norm->numbers[0];
      h.k_eps = heads.k_norm->numbers[0];
    }
    FuseHeads(stream_, h, Mutable<std::byte>(heads.write->pointers[0]), kv_, step_words_ + step_.offsets.kv_slots);
    NoteLast("starting a kernel");
    records = records.subspan(heads.calls);
  }
}

const CudaOps::RopeTableOf& CudaOps::ReadyRope(int32_t index) {
  RopeTableOf& rope = *ropes_[static_cast<size_t>(index)];
  if (!rope.ready) {
    RopeTable(stream_, rope.table, step_words_ + step_.offsets.positions, rope.device_frequency, rope.magnitude,
              step_.key.tokens, static_cast<int64_t>(rope.frequency.size()));
    rope.ready = true;
  }
  return rope;
}

void CudaOps::IssueRope(const OpRecord& r) {
  const RopeTableOf& rope = ReadyRope(r.flag >> 1);
  float* x = Mutable(r.pointers[0]);
  Wrote(x);
  Rotate(stream_,
         {x, r.sizes[0], r.sizes[1], r.sizes[2], r.sizes[3], static_cast<int64_t>(rope.frequency.size()),
          (r.flag & 1) != 0},
         rope.table);
}

void CudaOps::IssueKvWrite(const OpRecord& r) {
  WriteKv(stream_, Mutable<std::byte>(r.pointers[0]), kv_,
          {Floats(r.pointers[1]), Floats(r.pointers[2]), r.sizes[0], r.sizes[1]}, step_words_ + step_.offsets.kv_slots);
}

void CudaOps::IssueAttention(const OpRecord& r) {
  AttentionArgs a = {};
  a.y = Mutable(r.pointers[0]);
  a.q = Floats(r.pointers[1]);
  a.q_stride = r.sizes[0];
  a.pages = static_cast<const std::byte*>(r.pointers[2]);
  a.kv = kv_;
  a.group = limits_.query_heads / layout_.kv_heads;
  a.tokens = step_.key.tokens;
  a.scale_log2 = static_cast<float>(layout_.scale * kLog2E);
  a.window = static_cast<int32_t>(r.sizes[1]);
  a.sinks = Floats(r.pointers[3]);
  a.step = step_words_;
  a.offsets = step_.offsets;
  a.narrow_items = step_.key.narrow_items;
  a.wide_items = step_.key.wide_items;
  a.trunk_items = step_.key.trunk_items;
  a.partial_values = partial_values_;
  a.partial_sums = partial_sums_;
  Wrote(a.y);
  const int64_t width = int64_t{limits_.query_heads} * layout_.dim_v;
  if (width % kTileColumns == 0 && !kv_.v_in_k) a.shadow = NewShadow(a.y, a.tokens, width);
  if (kv_.v_in_k) {
    AttendLatent(stream_, a);
  } else {
    if (a.narrow_items > 0) AttendNarrow(stream_, a);
    if (a.wide_items > 0) AttendWide(stream_, a);
    if (a.trunk_items > 0) AttendTrunk(stream_, a);
  }
  if (step_.key.merges > 0) MergePartials(stream_, a);
}

}  // namespace conclave::engine::cuda
