// SPDX-License-Identifier: Apache-2.0
// Neighbouring calls of a recorded step that one kernel does.
#pragma once

#include <span>

#include "engine/ops/cuda/kernels.h"
#include "engine/ops/cuda/op_record.h"

namespace conclave::engine::cuda {

// Norms of the heads of q and k (both or neither), their rotation and KvWrite, over rows q | k | v.
struct HeadFusion {
  size_t calls = 0;  // at the front of the records; 0: they are something else
  const OpRecord *q_norm = nullptr, *k_norm = nullptr;
  const OpRecord *q_rope = nullptr, *k_rope = nullptr;
  const OpRecord* write = nullptr;
};
HeadFusion MatchHeads(std::span<const OpRecord> records, int64_t query_heads, const KvShape& kv);

// An ExpertFfn, the Route before it whose choice it is (of one token: found by the products themselves), and the
// AddRmsNorm behind it that adds its result.
struct ExpertFusion {
  size_t calls = 0;  // 0: none of these
  const OpRecord *route = nullptr, *norm = nullptr;
  const OpRecord* experts = nullptr;
};
ExpertFusion MatchExperts(std::span<const OpRecord> records);

}  // namespace conclave::engine::cuda
