// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "orchestrator/experiment/stats/outcome_vectors.h"

namespace conclave::stats {
namespace {

// Would have caught standard errors divided by sqrt(replicates).
TEST(BootstrapTest, SeOfAMeanIsTheAnalyticOne) {
  const OutcomeVectors v;
  const BootstrapResult plain = BootstrapMean(v.k, {}, {.seed = 7});
  EXPECT_NEAR(plain.estimate, 0.33263836239575434, 1e-12);
  EXPECT_NEAR(*plain.se / *Mean(v.k).se, 1, 0.02);
  EXPECT_NEAR(plain.percentile->lo, Mean(v.k).ci->lo, 0.001);
  EXPECT_NEAR(plain.bca->hi, Mean(v.k).ci->hi, 0.001);
  const std::vector<double> d = OutcomeVectors::Minus(v.a, v.b);
  const BootstrapResult clustered = BootstrapMean(d, v.clusters, {.seed = 7});
  EXPECT_NEAR(*clustered.se / *Mean(d, v.clusters).se, 1, 0.05);  // CR1 has G/(G-1), the bootstrap has not
}

// exp(i/8), i < 40. scipy 1.17: stats.bootstrap((x,), mean, n_resamples=200000): se 5.4203, percentile
// [17.726, 38.900], BCa [18.744, 40.507].
TEST(BootstrapTest, SkewedDataAgainstScipy) {
  std::vector<double> x(40);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::exp(static_cast<double>(i) / 8);
  const BootstrapResult result = BootstrapMean(x, {}, {.seed = 3, .replicates = 100'000});
  EXPECT_NEAR(*result.se, 5.4203, 0.05);
  EXPECT_NEAR(result.percentile->lo, 17.726, 0.15);
  EXPECT_NEAR(result.percentile->hi, 38.900, 0.15);
  EXPECT_NEAR(result.bca->lo, 18.744, 0.15);
  EXPECT_NEAR(result.bca->hi, 40.507, 0.2);
}

TEST(BootstrapTest, GeneralFormAgreesWithTheMean) {
  const OutcomeVectors v;
  const BootstrapOptions options = {.seed = 11, .replicates = 200};
  const std::vector<double> k(v.k.begin(), v.k.begin() + 100);
  const BootstrapResult general = Bootstrap(
      k.size(),
      [&](std::span<const uint32_t> counts) {
        double sum = 0;
        double n = 0;
        for (size_t i = 0; i < counts.size(); ++i) sum += counts[i] * k[i], n += counts[i];
        return sum / n;
      },
      options);
  const BootstrapResult mean = BootstrapMean(k, {}, options);
  EXPECT_NEAR(general.estimate, mean.estimate, 1e-12);
  EXPECT_NEAR(*general.se, *mean.se, 1e-12);
  EXPECT_NEAR(general.bca->lo, mean.bca->lo, 1e-12);
}

TEST(BootstrapTest, ResamplesRepeatAndConserveUnits) {
  std::vector<uint32_t> first(50);
  std::vector<uint32_t> again(50);
  ResampleCounts(5, 3, first);
  ResampleCounts(5, 3, again);
  EXPECT_EQ(first, again);
  EXPECT_EQ(std::accumulate(first.begin(), first.end(), 0u), 50u);
  ResampleCounts(5, 4, again);
  EXPECT_NE(first, again);
}

TEST(BootstrapTest, UndefinedReplicatesAreLeftOut) {
  const auto ratio = [](std::span<const uint32_t> counts) {
    return counts[0] == 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(counts[1]) / counts[0];
  };
  const BootstrapResult result = Bootstrap(2, ratio, {.seed = 1, .replicates = 1000});
  EXPECT_EQ(result.estimate, 1);
  ASSERT_TRUE(result.percentile);
  EXPECT_EQ(result.percentile->lo, 0);  // (2, 0); (1, 1) gives 1; (0, 2) is undefined
  EXPECT_EQ(result.percentile->hi, 1);
}

TEST(BootstrapTest, NoSpreadNoInterval) {
  const BootstrapResult same = BootstrapMean(std::vector<double>(10, 1.0));
  EXPECT_EQ(same.estimate, 1);
  EXPECT_FALSE(same.se);
  EXPECT_FALSE(same.percentile);
  EXPECT_FALSE(BootstrapMean(std::vector<double>{1.0}).se);
}

// One sample per arm: the two-level form is the one-level form in distribution.
TEST(BootstrapTest, TwoLevels) {
  const OutcomeVectors v;
  const BootstrapResult one = BootstrapSampledDifference(v.a, 1, v.b, 1, {.seed = 2, .replicates = 4000});
  EXPECT_NEAR(one.estimate, 0.09552691432903715, 1e-12);
  EXPECT_NEAR(*one.se / 0.018608227871298372, 1, 0.05);
}

TEST(BootstrapTest, QuantileIsLinearBetweenOrderStatistics) {
  const std::vector<double> x = {1, 2, 4, 8};
  EXPECT_EQ(SortedQuantile(x, 0), 1);
  EXPECT_EQ(SortedQuantile(x, 1), 8);
  EXPECT_EQ(SortedQuantile(x, 0.5), 3);
  EXPECT_NEAR(SortedQuantile(x, 0.9), 6.8, 1e-12);
}

TEST(DrawCacheTest, KeptDrawsAreTheDraws) {
  DrawCache cache;
  std::vector<uint32_t> kept(300), fresh(300);
  for (const uint64_t seed : {1, 2}) {
    for (const uint64_t replicate : {0, 1, 5, 2, 1, 0, 2}) {  // out of order, too
      cache.Counts(seed, replicate, kept);
      ResampleCounts(seed, replicate, fresh);
      EXPECT_EQ(kept, fresh) << replicate;
    }
  }
  kept.resize(7), fresh.resize(7);
  cache.Counts(1, 0, kept);
  ResampleCounts(1, 0, fresh);
  EXPECT_EQ(kept, fresh);
}

}  // namespace
}  // namespace conclave::stats
