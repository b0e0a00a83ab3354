// SPDX-License-Identifier: Apache-2.0
// The passes over a whole vocabulary that sampling needs. Plain multiplications and additions in a fixed order, no
// library functions and no fused operations: the same bits on every x86-64 machine, so that a seed names a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace conclave::engine {

struct LogitPeak {
  float max;     // -infinity if all are
  size_t index;  // the first place of the maximum
  bool numeric;  // no NaN and no +infinity; otherwise the other fields mean nothing
};
// `logits` is not empty.
LogitPeak FindPeak(std::span<const float> logits);

// weights[i] = exp((logits[i] - max) * scale), relative error below 3e-7; 0 below exp(-87). Returns their sum, added in
// double over blocks of kWeightBlock in order. REQUIRES: weights.size() == logits.size(), max >= every logit, scale >
// 0.
inline constexpr size_t kWeightBlock = 256;
double ExpWeights(std::span<const float> logits, float max, float scale, std::span<float> weights);

// The sum alone.
double ExpSum(std::span<const float> logits, float max, float scale);

}  // namespace conclave::engine
