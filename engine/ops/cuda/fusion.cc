// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cuda/fusion.h"

namespace conclave::engine::cuda {

HeadFusion MatchHeads(std::span<const OpRecord> records, int64_t query_heads, const KvShape& kv) {
  HeadFusion fusion;
  size_t i = 0;
  const auto take = [&](OpKind kind, const OpRecord** record) {
    if (i >= records.size() || records[i].kind != kind) return false;
    *record = &records[i++];
    return true;
  };
  if (take(OpKind::kHeadRmsNorm, &fusion.q_norm) && !take(OpKind::kHeadRmsNorm, &fusion.k_norm)) return {};
  if (!take(OpKind::kRope, &fusion.q_rope) || !take(OpKind::kRope, &fusion.k_rope) ||
      !take(OpKind::kKvWrite, &fusion.write)) {
    return {};
  }
  // sizes of HeadRmsNorm and Rope: row stride, tokens, heads, width; of KvWrite: row stride, tokens.
  const OpRecord &q = *fusion.q_rope, &k = *fusion.k_rope, &write = *fusion.write;
  const int64_t stride = q.sizes[0], tokens = q.sizes[1], width = q.sizes[3];
  const auto* front = static_cast<const float*>(q.pointers[0]);
  const float* keys = front + query_heads * width;
  const auto same = [&](const OpRecord* r, const float* at, int64_t heads) {
    return r == nullptr || (r->pointers[0] == at && r->sizes[0] == stride && r->sizes[1] == tokens &&
                            r->sizes[2] == heads && r->sizes[3] == width);
  };
  const bool fits = !kv.v_in_k && kv.dim_k == width && kv.dim_v == width && width <= kFusedWidthMax &&
                    q.flag == k.flag && same(&q, front, query_heads) && same(&k, keys, kv.kv_heads) &&
                    same(fusion.q_norm, front, query_heads) && same(fusion.k_norm, keys, kv.kv_heads) &&
                    write.pointers[1] == keys && write.pointers[2] == keys + kv.kv_heads * width &&
                    write.sizes[0] == stride && write.sizes[1] == tokens;
  if (!fits) return {};
  fusion.calls = i;
  return fusion;
}

ExpertFusion MatchExperts(std::span<const OpRecord> records) {
  ExpertFusion fusion;
  size_t i = 0;
  if (records[i].kind == OpKind::kRoute) fusion.route = &records[i++];
  if (i >= records.size() || records[i].kind != OpKind::kExpertFfn) return {};
  fusion.experts = &records[i++];
  // pointers of Route: ids, weights; of ExpertFfn: y, x, ids, weights; of AddRmsNorm: residual, y, x. sizes[0]: tokens.
  const OpRecord& experts = *fusion.experts;
  if (fusion.route != nullptr && (fusion.route->pointers[0] != experts.pointers[2] ||
                                  fusion.route->pointers[1] != experts.pointers[3] || experts.sizes[0] != 1)) {
    return {};
  }
  if (i < records.size() && records[i].kind == OpKind::kAddRmsNorm && records[i].pointers[2] == experts.pointers[0] &&
      records[i].pointers[0] != experts.pointers[0] && records[i].sizes[0] == experts.sizes[0]) {
    fusion.norm = &records[i++];
  }
  if (fusion.route == nullptr && fusion.norm == nullptr) return {};
  fusion.calls = i;
  return fusion;
}

}  // namespace conclave::engine::cuda
