// SPDX-License-Identifier: Apache-2.0
// Reference values: statsmodels 0.15 (mcnemar, multipletests, ttost_paired), scipy 1.17 (permutation_test), and the
// published figures named beside them.
#include "orchestrator/experiment/stats/hypothesis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "orchestrator/experiment/stats/outcome_vectors.h"

namespace conclave::stats {
namespace {

constexpr double kTolerance = 1e-9;

TEST(McNemarTest, AgainstStatsmodels) {
  struct Case {
    size_t a_only, b_only;
    double exact, mid;
  };
  for (const Case& c : {Case{10, 3, 0.09228515625, 0.05737304687500002}, Case{5, 5, 1, 0.876953125},
                        Case{0, 6, 0.03125, 0.015625}, Case{412, 371, 0.15281978192020118, 0.14306728491199058},
                        Case{1, 0, 1, 0.5}, Case{370, 244, 4.157874861117753e-07, 3.429729155552973e-07}}) {
    EXPECT_NEAR(McNemar(c.a_only, c.b_only).p_exact, c.exact, kTolerance);
    EXPECT_NEAR(McNemar(c.a_only, c.b_only).p_mid, c.mid, kTolerance);
    EXPECT_EQ(McNemar(c.a_only, c.b_only).p_exact, McNemar(c.b_only, c.a_only).p_exact);
  }
  EXPECT_EQ(McNemar(0, 0).p_exact, 1);
  EXPECT_EQ(McNemar(0, 0).p_mid, 1);
}

// The fewest one-sided discordances for p < .05: 6 exact, 5 mid-p (specs/evaluation.md).
TEST(McNemarTest, FewestDiscordances) {
  EXPECT_GE(McNemar(5, 0).p_exact, 0.05);
  EXPECT_LT(McNemar(6, 0).p_exact, 0.05);
  EXPECT_GE(McNemar(4, 0).p_mid, 0.05);
  EXPECT_LT(McNemar(5, 0).p_mid, 0.05);
}

TEST(McNemarTest, CountsPairs) {
  const OutcomeVectors v;
  const PairedCounts counts = CountPairs(v.right_a, v.right_b);
  EXPECT_EQ(counts.both, 544u);
  EXPECT_EQ(counts.a_only, 370u);
  EXPECT_EQ(counts.b_only, 244u);
  EXPECT_EQ(counts.neither, 161u);
}

const std::vector<double> kDifferences = {0.5, -0.25, 1, 0, 0.75, -0.5, 0.25, 1, -1, 0.5, 0.5, 0.25, 0, 0.125};

TEST(SignFlipTest, ExactForFewUnits) {
  const SignFlipResult plain = SignFlip(kDifferences, {}, 1);
  EXPECT_TRUE(plain.exact);
  EXPECT_NEAR(plain.p, 0.177734375, 1e-12);
  std::vector<uint32_t> pairs;
  for (uint32_t i = 0; i < kDifferences.size(); ++i) pairs.push_back(i / 2);
  EXPECT_NEAR(SignFlip(kDifferences, pairs, 1).p, 0.125, 1e-12);
  EXPECT_EQ(SignFlip(std::vector<double>(5, 0.0), {}, 1).p, 1);
}

TEST(SignFlipTest, RandomForManyUnitsAndRepeatable) {
  // 24 units of ±1: T = 16 - 8 = 8, P(|T*| >= 8) is McNemar's exact p for 16 against 8.
  std::vector<double> d(24, 1);
  for (size_t i = 0; i < 8; ++i) d[i] = -1;
  const SignFlipResult result = SignFlip(d, {}, 42, 40'000);
  EXPECT_FALSE(result.exact);
  EXPECT_NEAR(result.p, McNemar(16, 8).p_exact, 0.006);  // 4 standard errors of 40,000 replicates
  EXPECT_EQ(result.p, SignFlip(d, {}, 42, 40'000).p);
  EXPECT_NE(result.p, SignFlip(d, {}, 43, 40'000).p);
}

TEST(SignFlipTest, EqualUnitsAreCountedAsTheOthersAreAdded) {
  // One unit that weighs nothing takes the way of unequal sums, with the same signs for all others.
  for (const size_t units : {21u, 31u, 32u, 33u, 127u, 128u, 129u, 1000u}) {
    std::vector<double> d(units, 0.5);
    for (size_t i = 0; i < units; i += 3) d[i] = -0.5;
    const double counted = SignFlip(d, {}, 7, 2'000).p;
    d.push_back(1e-300);
    EXPECT_EQ(counted, SignFlip(d, {}, 7, 2'000).p) << units;
  }
}

TEST(MultiplicityTest, AgainstStatsmodels) {
  const std::vector<double> p = {0.01, 0.04, 0.03, 0.005, 0.2, 0.04};
  const std::vector<double> holm = {0.05, 0.12, 0.12, 0.03, 0.2, 0.12};
  const std::vector<double> bh = {0.03, 0.048, 0.048, 0.03, 0.2, 0.048};
  for (size_t i = 0; i < p.size(); ++i) {
    EXPECT_NEAR(Holm(p)[i], holm[i], 1e-12);
    EXPECT_NEAR(BenjaminiHochberg(p)[i], bh[i], 1e-12);
  }
  EXPECT_TRUE(Holm({}).empty());
}

TEST(EquivalenceTest, AgainstStatsmodels) {
  const OutcomeVectors v;
  const Estimate difference = Difference(v.a, v.b).difference;
  const std::optional<EquivalenceResult> wide = Equivalence(difference, 0.15);
  ASSERT_TRUE(wide);
  EXPECT_NEAR(wide->p_upper, 0.0017385674477101536, kTolerance);
  EXPECT_NEAR(wide->p_lower, 9.934630563693447e-38, 1e-45);
  EXPECT_NEAR(wide->interval.lo, 0.06489757461587221, kTolerance);
  EXPECT_NEAR(wide->interval.hi, 0.12615625404220207, kTolerance);
  EXPECT_TRUE(wide->equivalent);
  const std::optional<EquivalenceResult> narrow = Equivalence(difference, 0.1);
  EXPECT_FALSE(narrow->equivalent);
  EXPECT_TRUE(narrow->noninferior);
  EXPECT_FALSE(Equivalence(Mean(std::vector<double>{0, 0, 0}), 0.1));
}

TEST(PowerTest, PublishedFigures) {
  // Miller 2411.00640: 3 points need about 969 questions at w² = 1/9.
  EXPECT_NEAR(QuestionsNeeded(1.0 / 9, 0.03), 969, 1);
  EXPECT_NEAR(MinimumDetectable(1.0 / 9, 969, 0.05, 0.8), 0.03, 1e-5);
  // The same, 198 questions, uniform difficulty (s² = 1/6 per arm): 13.2 % with one sample, 7.5 % with ten.
  EXPECT_NEAR(MinimumDetectable(1.0 / 9 + 2.0 / 6, 198), 0.132, 0.001);
  EXPECT_NEAR(MinimumDetectable(1.0 / 9 + 2.0 / 6 / 10, 198), 0.075, 0.001);
  // specs/evaluation.md: discordance .10. MDE in points, and questions to certify equivalence.
  EXPECT_NEAR(MinimumDetectable(0.10, 1319), 0.024, 0.0005);
  EXPECT_NEAR(MinimumDetectable(0.10, 500), 0.040, 0.0005);
  EXPECT_NEAR(MinimumDetectable(0.10, 30), 0.162, 0.0005);
  EXPECT_NEAR(QuestionsForEquivalence(0.10, 0.01), 8564, 1);
  EXPECT_NEAR(QuestionsForEquivalence(0.10, 0.02), 2141, 1);
  EXPECT_NEAR(QuestionsForEquivalence(0.10, 0.03), 952, 1);
  // specs/deliberation.md §5: 20 % discordant, 22.9 points at n = 30, 8.9 at 198, 5.6 at 500.
  EXPECT_NEAR(MinimumDetectable(0.20, 30), 0.229, 0.0005);
  EXPECT_NEAR(MinimumDetectable(0.20, 198), 0.089, 0.0005);
  EXPECT_NEAR(MinimumDetectable(0.20, 500), 0.056, 0.0005);
}

TEST(PowerTest, PowerAtTheMinimumDetectableDifference) {
  EXPECT_NEAR(Power(2.5, 1), 0.7054180011138003, kTolerance);
  EXPECT_NEAR(Power(MinimumDetectableFromSe(0.01), 0.01), 0.8, 1e-5);
  EXPECT_NEAR(Power(0, 1), 0.05, 1e-12);
}

}  // namespace
}  // namespace conclave::stats
