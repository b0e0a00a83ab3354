// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler/logit_math.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "common/check.h"

namespace conclave::engine {
namespace {

// Four lanes: what every x86-64 (SSE2) and AArch64 has.
using F4 = float __attribute__((vector_size(16)));
using I4 = int32_t __attribute__((vector_size(16)));
constexpr size_t kLanes = 4;

F4 Load(const float* p) {
  F4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
F4 Broadcast(float x) { return F4{x, x, x, x}; }

// exp(x) for x <= 0: 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2, and e^r by its Taylor polynomial of degree 6
// (remainder below 1.3e-7 * e^r). Cody and Waite's two-part ln 2 keeps r exact to the last bits.
F4 ExpOfNegative(F4 x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
  constexpr float kSmallest = -87.0f;
  const I4 underflow = x < Broadcast(kSmallest);
  x = underflow ? Broadcast(kSmallest) : x;
  const F4 shifted = x * kLog2E + kRound;
  const F4 n = shifted - kRound;
  F4 r = x - n * kLn2High;
  r = r - n * kLn2Low;
  F4 p = Broadcast(1.0f / 720);
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const I4 exponent = std::bit_cast<I4>(shifted) << 23;  // the bits above the low ones of n fall out
  const F4 result = std::bit_cast<F4>(std::bit_cast<I4>(p) + exponent);
  return underflow ? Broadcast(0.0f) : result;
}

// Adds up exp((logit - max) * scale) and hands each group of four to `store(offset, values)`; the last group is padded
// with zeros.
template <typename Store>
double ForEachWeight(std::span<const float> logits, float max, float scale, Store store) {
  double total = 0;
  for (size_t block = 0; block < logits.size(); block += kWeightBlock) {
    const size_t end = std::min(block + kWeightBlock, logits.size());
    F4 sum = Broadcast(0.0f);
    size_t i = block;
    for (; i + kLanes <= end; i += kLanes) {
      const F4 w = ExpOfNegative((Load(logits.data() + i) - max) * scale);
      sum += w;
      store(i, w, kLanes);
    }
    if (i < end) {
      float tail[kLanes];
      for (float& x : tail) x = -std::numeric_limits<float>::infinity();
      std::memcpy(tail, logits.data() + i, (end - i) * sizeof(float));
      const F4 w = ExpOfNegative((Load(tail) - max) * scale);
      sum += w;
      store(i, w, end - i);
    }
    total += static_cast<double>(sum[0] + sum[1]) + static_cast<double>(sum[2] + sum[3]);
  }
  return total;
}

}  // namespace

LogitPeak FindPeak(std::span<const float> logits) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  F4 best = Broadcast(kLowest);
  I4 numeric = {-1, -1, -1, -1};
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    const F4 x = Load(logits.data() + i);
    best = x > best ? x : best;
    numeric &= x <= Broadcast(kLargest);  // false for NaN too
  }
  LogitPeak peak = {kLowest, 0, (numeric[0] & numeric[1] & numeric[2] & numeric[3]) != 0};
  for (size_t lane = 0; lane < kLanes; ++lane) peak.max = std::max(peak.max, best[lane]);
  for (; i < logits.size(); ++i) {
    peak.numeric = peak.numeric && logits[i] <= kLargest;
    peak.max = std::max(peak.max, logits[i]);
  }
  while (peak.numeric && logits[peak.index] != peak.max) ++peak.index;
  return peak;
}

double ExpWeights(std::span<const float> logits, float max, float scale, std::span<float> weights) {
  CONCLAVE_DCHECK(weights.size() == logits.size());
  float* out = weights.data();
  return ForEachWeight(logits, max, scale,
                       [out](size_t i, const F4& w, size_t n) { std::memcpy(out + i, &w, n * sizeof(float)); });
}

double ExpSum(std::span<const float> logits, float max, float scale) {
  return ForEachWeight(logits, max, scale, [](size_t, const F4&, size_t) {});
}

}  // namespace conclave::engine
