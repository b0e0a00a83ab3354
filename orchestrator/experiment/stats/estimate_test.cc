// SPDX-License-Identifier: Apache-2.0
// Reference values: scipy 1.17 (sem, t.interval), statsmodels 0.15 (OLS on a constant with cov_type="cluster",
// proportion_confint), on the vectors of outcome_vectors.h.
#include "orchestrator/experiment/stats/estimate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "orchestrator/experiment/stats/outcome_vectors.h"

namespace conclave::stats {
namespace {

constexpr double kTolerance = 1e-9;

void ExpectEstimate(const Estimate& e, double mean, double se, double lo, double hi) {
  EXPECT_NEAR(e.mean, mean, kTolerance);
  ASSERT_TRUE(e.se && e.ci);
  EXPECT_NEAR(*e.se, se, kTolerance);
  EXPECT_NEAR(e.ci->lo, lo, kTolerance);
  EXPECT_NEAR(e.ci->hi, hi, kTolerance);
}

TEST(EstimateTest, PlainAndClusteredMeans) {
  const OutcomeVectors v;
  ExpectEstimate(Mean(v.a), 0.6929492039423806, 0.012705685723131738, 0.6680236278746807, 0.7178747800100804);
  ExpectEstimate(Mean(v.k), 0.33263836239575434, 0.009456509451120223, 0.31408690828338853, 0.35118981650812015);
  const Estimate clustered = Mean(v.a, v.clusters);
  ExpectEstimate(clustered, 0.6929492039423806, 0.004175149320489595, 0.6845292128771379, 0.7013691950076233);
  EXPECT_EQ(clustered.clusters, 44u);
  EXPECT_EQ(clustered.df, 43);
}

TEST(EstimateTest, PairedDifferences) {
  const OutcomeVectors v;
  const PairedDifference plain = Difference(v.a, v.b);
  ExpectEstimate(plain.difference, 0.09552691432903715, 0.018608227871298372, 0.059021934637408464,
                 0.13203189402066584);
  EXPECT_NEAR(*plain.correlation, -0.006850289239889546, kTolerance);
  EXPECT_NEAR(*plain.se_unpaired, 0.018544935833173477, kTolerance);
  ExpectEstimate(Difference(v.a, v.b, v.clusters).difference, 0.09552691432903715, 0.00634852633213905,
                 0.0827238907984199, 0.1083299378596544);
  ExpectEstimate(Difference(v.k, v.b, v.clusters).difference, -0.2647839272175891, 0.0049062870388051774,
                 -0.2746783980159201, -0.2548894564192581);
}

// Miller's form without G/(G-1) would be smaller by sqrt((n-1)/n).
TEST(EstimateTest, ClustersOfOneArePlain) {
  const OutcomeVectors v;
  std::vector<uint32_t> own(v.k.size());
  std::iota(own.begin(), own.end(), 7u);
  EXPECT_NEAR(*Mean(v.k, own).se, *Mean(v.k).se, 1e-15);
  EXPECT_NEAR(*DesignEffect(v.k, own), 1, 1e-12);
}

TEST(EstimateTest, DuplicatedQuestionsAddNothingOnceClustered) {
  const OutcomeVectors v;
  std::vector<double> twice = v.k;
  twice.insert(twice.end(), v.k.begin(), v.k.end());
  std::vector<uint32_t> clusters(twice.size());
  for (size_t i = 0; i < clusters.size(); ++i) clusters[i] = static_cast<uint32_t>(i % v.k.size());
  EXPECT_NEAR(*Mean(twice, clusters).se, *Mean(v.k).se, 1e-12);
  EXPECT_LT(*Mean(twice).se, 0.75 * *Mean(v.k).se);
}

TEST(EstimateTest, WhatCannotBeFormedIsNull) {
  EXPECT_TRUE(std::isnan(Mean({}).mean));
  EXPECT_FALSE(Mean({}).se);
  const std::vector<double> one = {1};
  EXPECT_FALSE(Mean(one).se);
  EXPECT_FALSE(Mean(one).ci);
  const std::vector<double> same = {1, 1, 1};
  EXPECT_EQ(*Mean(same).se, 0);
  EXPECT_FALSE(Mean(same).ci);  // no spread seen is not certainty
  const std::vector<uint32_t> together = {5, 5, 5};
  EXPECT_FALSE(Mean(same, together).se);
  EXPECT_FALSE(Difference(same, same).correlation);
}

TEST(EstimateTest, Strata) {
  const OutcomeVectors v;
  std::vector<uint32_t> strata;
  for (size_t i = 0; i < v.k.size(); ++i) strata.push_back(i % 10 < 1 ? 0 : i % 10 < 4 ? 1 : 2);
  const StratifiedEstimate e = StratifiedMean(v.k, strata);
  EXPECT_EQ(e.strata, 3u);
  EXPECT_NEAR(e.micro.mean, 0.3326383623957544, kTolerance);
  EXPECT_NEAR(*e.micro.se, 0.00946347336730986, kTolerance);
  EXPECT_NEAR(e.macro.mean, 0.33105390185036204, kTolerance);
  EXPECT_NEAR(*e.macro.se, 0.012148665324966163, kTolerance);
  strata[0] = 9;  // alone in its stratum
  EXPECT_FALSE(StratifiedMean(v.k, strata).micro.se);
}

TEST(EstimateTest, RateIntervals) {
  struct Case {
    size_t x, n;
    double wilson_lo, wilson_hi, exact_lo, exact_hi;
  };
  for (const Case& c :
       {Case{0, 330, 0, 0.01150683571256909, 0, 0.011116176177237215},
        Case{924, 1319, 0.6752593028257696, 0.7246374470626114, 0.6750062669308989, 0.7251583108659607},
        Case{5, 5, 0.5655175352168252, 1, 0.4781762498950185, 1},
        Case{1, 10, 0.017876213095072924, 0.40415002679523854, 0.0025285785444617848, 0.4450161170281953},
        Case{13187, 14042, 0.9350347316146829, 0.9429475548972858, 0.9350286575488491, 0.94301066737126}}) {
    EXPECT_NEAR(Wilson(c.x, c.n)->lo, c.wilson_lo, kTolerance);
    EXPECT_NEAR(Wilson(c.x, c.n)->hi, c.wilson_hi, kTolerance);
    EXPECT_NEAR(ClopperPearson(c.x, c.n)->lo, c.exact_lo, kTolerance);
    EXPECT_NEAR(ClopperPearson(c.x, c.n)->hi, c.exact_hi, kTolerance);
  }
  EXPECT_FALSE(Wilson(0, 0));
  EXPECT_FALSE(ClopperPearson(0, 0));
}

// Difficulty uniform on [0, 1] at p = j/q: K samples instead of one shrink the variance of a mean to (1 + 2/K)/3
// (Miller 2411.00640). Here through the split of the noise.
TEST(EstimateTest, NoiseSplitOfUniformDifficulty) {
  constexpr size_t kSamples = 10;
  std::vector<double> a;
  for (size_t copy = 0; copy < 10; ++copy) {
    for (size_t right = 0; right <= kSamples; ++right) {
      for (size_t s = 0; s < kSamples; ++s) a.push_back(s < right ? 1 : 0);
    }
  }
  const std::vector<double> b(a.size(), 0);
  const std::optional<NoiseSplit> split = SplitNoise(a, kSamples, b, kSamples);
  ASSERT_TRUE(split);
  // By hand: mean of p(1-p) over p = 0, .1, .., 1 is .15; times K/(K-1).
  EXPECT_NEAR(split->sampling_a, 0.15 * 10 / 9, 1e-12);
  EXPECT_EQ(split->sampling_b, 0);
  EXPECT_NEAR(split->between, 0.1 * 110 / 109 - 0.15 / 9, 1e-12);
  EXPECT_FALSE(SplitNoise(a, 1, b, 1));
}

}  // namespace
}  // namespace conclave::stats
