// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler/logit_math.h"

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace conclave::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(LogitMathTest, WeightsAreExponentials) {
  constexpr uint64_t kSeed = 3;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  std::uniform_real_distribution<float> uniform(-60.0f, 10.0f);
  for (const size_t size : {size_t{1}, size_t{3}, size_t{4}, size_t{255}, size_t{256}, size_t{257}, size_t{1001}}) {
    std::vector<float> logits(size);
    for (float& x : logits) x = uniform(random);
    const LogitPeak peak = FindPeak(logits);
    ASSERT_TRUE(peak.numeric);
    for (const float scale : {1.0f, 0.5f, 1.7f}) {
      std::vector<float> weights(size);
      const double sum = ExpWeights(logits, peak.max, scale, weights);
      EXPECT_EQ(sum, ExpSum(logits, peak.max, scale));
      double expected_sum = 0;
      for (size_t i = 0; i < size; ++i) {
        const float x = (logits[i] - peak.max) * scale;
        const double expected = x < -87 ? 0 : std::exp(static_cast<double>(x));
        expected_sum += expected;
        ASSERT_NEAR(weights[i], expected, 3e-7 * expected) << "exp(" << x << ")";
      }
      EXPECT_NEAR(sum, expected_sum, 1e-6 * expected_sum);
      EXPECT_EQ(weights[peak.index], 1.0f);
    }
  }
}

TEST(LogitMathTest, ImpossibleTokensWeighNothing) {
  const std::vector<float> logits = {-kInfinity, 0.0f, -1000.0f, -kInfinity, -kInfinity};
  std::vector<float> weights(5);
  EXPECT_EQ(ExpWeights(logits, 0.0f, 1.0f, weights), 1.0);
  EXPECT_EQ(weights, (std::vector<float>{0, 1, 0, 0, 0}));
}

TEST(LogitMathTest, PeakIsTheFirstMaximum) {
  for (size_t size = 1; size < 40; ++size) {
    for (size_t at = 0; at < size; ++at) {
      std::vector<float> logits(size, -2.0f);
      logits[at] = 5.0f;
      logits.back() = 5.0f;
      const LogitPeak peak = FindPeak(logits);
      EXPECT_TRUE(peak.numeric);
      EXPECT_EQ(peak.index, at);
      EXPECT_EQ(peak.max, 5.0f);
    }
  }
}

TEST(LogitMathTest, FindsWhatIsNotANumberAnywhere) {
  for (size_t size = 1; size < 20; ++size) {
    for (size_t at = 0; at < size; ++at) {
      std::vector<float> logits(size, 1.0f);
      logits[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_FALSE(FindPeak(logits).numeric) << size << " " << at;
      logits[at] = kInfinity;
      EXPECT_FALSE(FindPeak(logits).numeric) << size << " " << at;
      logits[at] = -kInfinity;
      EXPECT_TRUE(FindPeak(logits).numeric);
    }
  }
}

// The same bits in every build and on every machine: fixed values.
TEST(LogitMathTest, BitsAreFixed) {
  std::vector<float> logits(64);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = -0.37f * static_cast<float>(i);
  std::vector<float> weights(64);
  ExpWeights(logits, 0.0f, 1.25f, weights);
  uint64_t hash = 14695981039346656037u;
  for (const float w : weights) hash = (hash ^ std::bit_cast<uint32_t>(w)) * 1099511628211u;
  EXPECT_EQ(hash, 12962979587458930952u);
}

}  // namespace
}  // namespace conclave::engine
