// SPDX-License-Identifier: Apache-2.0
// A call of a math op as data, so that a step's calls can be compared with an earlier step's and enqueued later.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "engine/ops/cuda/step_plan.h"

namespace conclave::engine::cuda {

enum class OpKind : int32_t {
  kEmbed,
  kAddRmsNorm,
  kGemm,
  kAddBias,
  kHeadRmsNorm,
  kRope,
  kKvWrite,
  kAttention,
  kSwiGlu,
  kSigmoidGate,
  kGatherRows,
  kHeadGemm,
  kRoute,
  kExpertFfn,
};

// Eight-byte fields and no padding: compared as bytes.
struct OpRecord {
  const void* pointers[8] = {};
  int64_t sizes[5] = {};
  float numbers[4] = {};
  OpKind kind = OpKind::kEmbed;
  int32_t flag = 0;

  // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): equal numbers of other bits (0 and -0) may count as changed
  friend bool operator==(const OpRecord& a, const OpRecord& b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }
};
static_assert(sizeof(OpRecord) == 128);

// A record's pointers as what they are.
template <typename T = float>
T* Mutable(const void* p) {
  return static_cast<T*>(const_cast<void*>(p));
}
inline const float* Floats(const void* p) { return static_cast<const float*>(p); }

}  // namespace conclave::engine::cuda
