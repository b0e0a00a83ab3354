// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts and products per head: their calls as records, and from records to kernels.
#include <algorithm>

#include "common/check.h"
#include "engine/ops/cuda/cuda_backend.h"
#include "engine/ops/host_ops.h"

namespace conclave::engine::cuda {
namespace {

const CudaStack& StackOf(const void* p) { return *static_cast<const CudaStack*>(p); }
const void* Pointer(const Weight* weight) {
  return weight == nullptr ? nullptr : static_cast<const CudaWeight*>(weight)->vector;
}

bool Same(const RouterSpec& a, const RouterSpec& b) {
  return a.experts == b.experts && a.top_k == b.top_k && a.scores == b.scores && a.groups == b.groups &&
         a.top_groups == b.top_groups && a.group_score == b.group_score && a.normalise == b.normalise &&
         a.sum_epsilon == b.sum_epsilon && a.scale == b.scale;
}

// A token's ids, of ExpertFfn.
const int32_t* Ids(const OpRecord& r, int64_t token) {
  return static_cast<const int32_t*>(r.pointers[2]) + token * r.sizes[1];
}

}  // namespace

void CudaOps::HeadGemm(const View& y, const View& x, const WeightStack& w) {
  const int64_t rest = x.shape[2] - w.columns;
  CONCLAVE_CHECK(rest >= 0 && x.shape[1] == w.count && y.shape == (Shape{x.shape[0], w.count, w.rows + rest}));
  CONCLAVE_CHECK(x.shape[0] <= limits_.tokens_max);
  OpRecord r = {.pointers = {y.data, x.data, static_cast<const CudaStack*>(&w)}, .sizes = {x.shape[0], rest}};
  r.kind = OpKind::kHeadGemm;
  Do(r);
}

void CudaOps::Route(const View& ids, const View& weights, const View& logits, const Weight* selection_bias,
                    const RouterSpec& router, const AttentionPlan& /*plan*/) {
  CheckRoute(ids, weights, logits, selection_bias, router);
  CONCLAVE_CHECK(router.experts <= kExpertsMax && logits.shape[0] == step_.key.tokens);
  const auto* words = reinterpret_cast<const int32_t*>(staged_step_.data()) + step_.offsets.experts;
  for (int32_t t = 0; t < step_.key.tokens; ++t) CONCLAVE_CHECK(words[t] >= 0 && words[t] <= router.top_k);
  const auto it = std::ranges::find_if(routers_, [&](const RouterSpec& known) { return Same(known, router); });
  OpRecord r = {.pointers = {ids.data, weights.data, logits.data, Pointer(selection_bias)}, .sizes = {ids.shape[0]}};
  r.flag = static_cast<int32_t>(it - routers_.begin());
  if (it == routers_.end()) routers_.push_back(router);
  r.kind = OpKind::kRoute;
  Do(r);
}

void CudaOps::ExpertFfn(const View& y, const View& x, const View& ids, const View& weights, const WeightStack& gate_up,
                        const WeightStack& down, const ExpertTerms& terms, Accumulate accumulate) {
  CheckExpertFfn(y, x, ids, weights, gate_up, down, terms, limits_);
  CONCLAVE_CHECK(terms.first_expert == 0);  // one rank: the loader refuses several
  OpRecord r = {
      .pointers = {y.data, x.data, ids.data, weights.data, static_cast<const CudaStack*>(&gate_up),
                   static_cast<const CudaStack*>(&down), Pointer(terms.gate_up_bias), Pointer(terms.down_bias)},
      .sizes = {x.shape[0], ids.shape.back()},
      .numbers = {terms.activation.alpha, terms.activation.limit, terms.activation.up_offset}};
  r.kind = OpKind::kExpertFfn;
  r.flag = accumulate == Accumulate::kAdd ? 1 : 0;
  Do(r);
}

RouteArgs CudaOps::RouteArgsOf(const OpRecord& r) const {
  RouteArgs a = {};
  a.ids = Mutable<int32_t>(r.pointers[0]);
  a.weights = Mutable(r.pointers[1]);
  a.logits = Floats(r.pointers[2]);
  a.bias = Floats(r.pointers[3]);
  a.experts_of_token = step_words_ + step_.offsets.experts;
  a.tokens = r.sizes[0];
  a.router = routers_[static_cast<size_t>(r.flag)];
  return a;
}

void CudaOps::IssueRoute(const OpRecord& r) {
  Wrote(r.pointers[0]);
  Wrote(r.pointers[1]);
  RouteTokens(stream_, RouteArgsOf(r));
}

bool CudaOps::RoutesInside(const ExpertFusion& fusion) const {
  if (fusion.route == nullptr) return true;
  const CudaStack &gate_up = StackOf(fusion.experts->pointers[4]), &down = StackOf(fusion.experts->pointers[5]);
  return CanRouteInside(routers_[static_cast<size_t>(fusion.route->flag)]) && !gate_up.has_f32() && !down.has_f32();
}

void CudaOps::Multiply(const GroupedProduct& product, const StackPart& part) {
  if (part.part.dtype == DType::kF32) return GroupedF32(stream_, product, part);
  if (product.groups.tile == kGroupedTileLarge) return GroupedGemm(stream_, product, part);
  GroupedGemv(stream_, product, part);
}

void CudaOps::IssueExpertFfn(const OpRecord& r, const OpRecord* route, const OpRecord* norm) {
  const CudaStack& gate_up = StackOf(r.pointers[4]);
  const int64_t tokens = r.sizes[0], width = gate_up.columns;
  ExpertPart part = {};
  part.route = route;
  part.norm = norm;
  if (gate_up.has_bf16()) part.shadow = ShadowOf(r.pointers[1], tokens, width);
  for (part.token = 0; part.token < tokens; part.token += part.tokens) {
    part.tokens = std::min(room_.expert_tokens, tokens - part.token);
    IssueExperts(r, part);
  }
  Wrote(r.pointers[0]);
}

void CudaOps::IssueExperts(const OpRecord& r, const ExpertPart& part) {
  const CudaStack &gate_up = StackOf(r.pointers[4]), &down = StackOf(r.pointers[5]);
  const int64_t token = part.token, tokens = part.tokens, slots = r.sizes[1], pairs = tokens * slots;
  const int64_t hidden = down.columns;
  GroupedProduct p = {};
  p.groups = expert_groups_;
  p.groups.matrices = static_cast<int32_t>(gate_up.count);
  p.groups.ids = Ids(r, token);
  p.groups.tile = GroupedTile(tokens, pairs, gate_up.count);
  p.groups.how = tokens > 1 ? Grouping::kSorted : part.route != nullptr ? Grouping::kRouted : Grouping::kDirect;
  p.groups.items = static_cast<int32_t>(tokens == 1 ? pairs : GroupedItemsMax(pairs, gate_up.count, p.groups.tile));
  CONCLAVE_CHECK(pairs <= room_.pairs && p.groups.items <= std::max(room_.items, pairs));
  if (tokens > 1) SortGroups(stream_, p.groups, pairs);
  if (part.route != nullptr) p.groups.route = RouteArgsOf(*part.route);

  p.activation = {r.numbers[0], r.numbers[1], r.numbers[2]};
  p.bias = Floats(r.pointers[6]);
  p.x = part.shadow.data == nullptr ? nullptr : part.shadow.data + token * part.shadow.stride;
  p.x_stride = part.shadow.stride;
  p.x_f32 = Floats(r.pointers[1]) + token * gate_up.columns;
  p.x_f32_stride = gate_up.columns;
  p.x_divisor = static_cast<int32_t>(slots);
  p.y = pair_values_;
  p.y_stride = gate_up.rows;
  const int64_t stride = RoundUpTo(hidden, kTileColumns);
  const bool gated = gate_up.parts.size() == 1 && gate_up.has_bf16() && !down.has_f32() &&
                     p.groups.tile != kGroupedTileLarge && CanGate(gate_up.parts[0].part.rows);
  if (gated) p.activated = activated_, p.activated_stride = stride;
  for (size_t i = 0; i < gate_up.parts.size(); ++i) {
    p.groups.writes_route = i == 0;
    Multiply(p, gate_up.parts[i]);
  }
  p.groups.writes_route = false;
  if (!gated) {
    ActivatePairs(stream_, {.gate_up = pair_values_,
                            .ids = p.groups.ids,
                            .bias = p.bias,
                            .activated = down.has_bf16() ? activated_ : nullptr,
                            .activated_stride = stride,
                            .activated_f32 = down.has_f32() ? activated_f32_ : nullptr,
                            .pairs = pairs,
                            .width = hidden,
                            .activation = p.activation});
  }
  p.activated = nullptr;
  p.bias = nullptr;
  p.x = activated_;
  p.x_stride = stride;
  p.x_f32 = activated_f32_;
  p.x_f32_stride = hidden;
  p.x_divisor = 1;
  p.early = true;  // gate | up stand between
  p.y_stride = down.rows;
  for (const StackPart& some : down.parts) Multiply(p, some);
  CombineExperts(r, part);
}

void CudaOps::CombineExperts(const OpRecord& r, const ExpertPart& part) {
  const int64_t token = part.token, tokens = part.tokens, slots = r.sizes[1];
  const int64_t width = StackOf(r.pointers[5]).rows;
  const CombineArgs combine = {.y = Mutable(r.pointers[0]) + token * width,
                               .pairs = pair_values_,
                               .ids = Ids(r, token),
                               .weights = Floats(r.pointers[3]) + token * slots,
                               .bias = Floats(r.pointers[7]),
                               .tokens = tokens,
                               .slots = slots,
                               .width = width,
                               .add = r.flag != 0};
  if (part.norm == nullptr) return CombinePairs(stream_, combine);
  const OpRecord& norm = *part.norm;
  float *residual = Mutable(norm.pointers[0]) + token * width, *y = Mutable(norm.pointers[1]) + token * width;
  Wrote(norm.pointers[0]);
  Wrote(norm.pointers[1]);
  const bool whole = tokens == r.sizes[0];
  CombineAddRmsNormRows(stream_, combine, residual, y, static_cast<const CudaWeight*>(norm.pointers[3])->vector,
                        norm.numbers[0], whole ? NewShadow(norm.pointers[1], tokens, width) : Shadow{});
}

void CudaOps::IssueHeadGemm(const OpRecord& r) {
  const CudaStack& w = StackOf(r.pointers[2]);
  const int64_t tokens = r.sizes[0], rest = r.sizes[1], whole = w.columns + rest, y_stride = w.rows + rest;
  const int64_t stride = RoundUpTo(w.columns, kTileColumns);
  const bool bf16 = w.has_bf16();
  Wrote(r.pointers[0]);
  for (int64_t token = 0; token < tokens; token += room_.head_tokens) {
    const int64_t some = std::min(room_.head_tokens, tokens - token), row = token * w.count;
    const float* x = Floats(r.pointers[1]) + row * whole;
    float* y = Mutable(r.pointers[0]) + row * y_stride;
    if (bf16 || rest > 0) {
      SplitHeads(stream_, {.x = x,
                           .y = y,
                           .shadow = bf16 ? head_shadow_ : nullptr,
                           .shadow_stride = stride,
                           .rows = some * w.count,
                           .width = w.columns,
                           .rest = rest,
                           .y_stride = y_stride});
    }
    GroupedProduct p = {};
    p.groups.how = Grouping::kHeads;
    p.groups.matrices = static_cast<int32_t>(w.count);
    p.groups.tile = some <= kGroupedTileSmall    ? kGroupedTileSmall
                    : some <= kGroupedTileMiddle ? kGroupedTileMiddle
                                                 : kGroupedTileLarge;
    p.groups.tokens = static_cast<int32_t>(some);
    p.groups.items = static_cast<int32_t>(w.count * ((some + p.groups.tile - 1) / p.groups.tile));
    p.x = head_shadow_;
    p.x_stride = stride;
    p.x_f32 = x;
    p.x_f32_stride = whole;
    p.x_divisor = 1;
    p.y = y;
    p.y_stride = y_stride;
    for (const StackPart& part : w.parts) Multiply(p, part);
  }
}

}  // namespace conclave::engine::cuda
