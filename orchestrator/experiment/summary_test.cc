// SPDX-License-Identifier: Apache-2.0
// Expected values: numpy 2, scipy.stats (t.ppf, binomtest, binom.pmf) and statsmodels (mcnemar, clustered OLS) on the
// same 60 outcomes.
#include "orchestrator/experiment/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace conclave::experiment {
namespace {

using ::testing::DoubleNear;
using ::testing::HasSubstr;

constexpr std::string_view kA = "001111111011100011111101101001111111011111111111101010101111";
constexpr std::string_view kB = "011010010111100000010010101111000101011110111101011111101111";
constexpr double kTolerance = 1e-9;

std::vector<Outcome> Rows(const std::string& arm, std::string_view right, size_t per_cluster) {
  std::vector<Outcome> rows;
  for (size_t i = 0; i < right.size(); ++i) {
    Outcome row;
    row.arm = arm, row.id = "q" + std::to_string(i);
    row.kind = right[i] == '1' ? OutcomeKind::kCorrect : OutcomeKind::kWrong;
    if (per_cluster > 1) row.cluster = "c" + std::to_string(i / per_cluster);
    row.calls = 2;
    if (arm == "b" && i < 6) row.lost_calls = 1;
    rows.push_back(row);
  }
  return rows;
}

std::vector<Outcome> Both(size_t per_cluster = 1) {
  std::vector<Outcome> rows = Rows("a", kA, per_cluster);
  for (const Outcome& row : Rows("b", kB, per_cluster)) rows.push_back(row);
  return rows;
}

TEST(Contrast, EqualsScipyAndStatsmodels) {
  const auto arms = SplitByArm(Both());
  const auto c = Compare(arms[0], arms[1], 0.03, 1);
  ASSERT_OK(c);
  EXPECT_EQ(c->n, 60u);
  EXPECT_NEAR(c->difference.mean, 0.15, kTolerance);
  EXPECT_NEAR(c->difference.se.value(), 0.0817361056109965, kTolerance);
  EXPECT_NEAR(c->difference.ci->lo, -0.013553569550538491, kTolerance);
  EXPECT_NEAR(c->difference.ci->hi, 0.3135535695505385, kTolerance);
  EXPECT_EQ(c->a_only, 17);
  EXPECT_EQ(c->b_only, 8);
  EXPECT_NEAR(c->mcnemar_exact.value(), 0.10775214433670044, kTolerance);
  EXPECT_NEAR(c->mcnemar_mid_p.value(), 0.07551869750022883, kTolerance);
  EXPECT_NEAR(c->mde80.value(), 0.22899066526588827, kTolerance);
  EXPECT_EQ(c->equivalent, false);
}

TEST(Contrast, ClustersWidenAndTakeMcNemarAway) {
  const auto arms = SplitByArm(Both(4));
  const auto c = Compare(arms[0], arms[1], 0.03, 1);
  ASSERT_OK(c);
  EXPECT_EQ(c->difference.clusters, 15u);
  EXPECT_NEAR(c->difference.se.value(), 0.0801783725737273, kTolerance);
  EXPECT_NEAR(c->difference.ci->hi, 0.15 + 2.144786687917804 * 0.0801783725737273, kTolerance);
  EXPECT_FALSE(c->mcnemar_exact.has_value());
  EXPECT_TRUE(c->sign_flip_p.has_value());
}

TEST(Contrast, ReplicatesAreAveragedWithinItems) {
  std::vector<Outcome> rows = Rows("a", "10", 1);
  for (Outcome row : Rows("a", "11", 1)) {
    row.replicate = 1;
    rows.push_back(row);
  }
  const auto arms = SplitByArm(rows);
  ASSERT_EQ(arms.size(), 1u);
  EXPECT_EQ(arms[0].scores, (std::vector<double>{1.0, 0.5}));
  EXPECT_EQ(arms[0].replicates, 2);
}

// Nearly all right in few items: Student's t would pass 100 %.
TEST(Contrast, IntervalsOfRatesStayWithinTheirBounds) {
  for (const size_t per_cluster : {1, 3}) {
    std::vector<Outcome> rows = Rows("a", "111111111110", per_cluster);
    for (const Outcome& row : Rows("b", "000000000001", per_cluster)) rows.push_back(row);
    const auto arms = SplitByArm(rows);
    EXPECT_EQ(Accuracy(arms[0]).ci->hi, 1);
    EXPECT_EQ(Accuracy(arms[1]).ci->lo, 0);
    EXPECT_LT(AccuracyInterval(arms[0])->hi, 1);
    EXPECT_GT(AccuracyInterval(arms[0])->hi, Accuracy(arms[0]).mean);
    const auto c = Compare(arms[0], arms[1], 0.03, 1);
    ASSERT_OK(c);
    EXPECT_EQ(c->difference.ci->hi, 1);
  }
}

TEST(Contrast, StrataAndTheNoiseOfReplicates) {
  std::vector<Outcome> rows;
  for (const char* arm : {"a", "b"}) {
    for (int i = 0; i < 8; ++i) {
      for (int replicate = 0; replicate < 2; ++replicate) {
        Outcome row;
        row.arm = arm, row.id = std::to_string(i), row.replicate = replicate, row.stratum = i < 6 ? "s" : "t";
        const bool right = *arm == 'a' ? i < 6 || replicate == 0 : i % 2 == 0;
        row.kind = right ? OutcomeKind::kCorrect : OutcomeKind::kWrong;
        rows.push_back(row);
      }
    }
  }
  const auto arms = SplitByArm(rows);
  const auto strata = AccuracyByStratum(arms[0]);
  ASSERT_TRUE(strata);
  EXPECT_NEAR(strata->micro.mean, 7.0 / 8, kTolerance);  // six of six, and a half on two
  EXPECT_NEAR(strata->macro.mean, (1 + 0.5) / 2, kTolerance);
  const auto c = Compare(arms[0], arms[1], 0.03, 1);
  ASSERT_OK(c);
  ASSERT_TRUE(c->noise);
  EXPECT_NEAR(c->noise->sampling_a, 2 * 0.5 / 8, kTolerance);  // (1, 0) twice: variance 1/2
  EXPECT_EQ(c->noise->sampling_b, 0);
  EXPECT_EQ(c->test(), "sign_flip_mid_p");
}

TEST(Contrast, ItemsOfOneArmOnlyAreCountedAndLeftOut) {
  const auto arms = SplitByArm(Both());
  auto rows = Rows("b", kB.substr(0, 50), 1);
  const auto c = Compare(arms[0], SplitByArm(rows)[0], 0.03, 1);
  ASSERT_OK(c);
  EXPECT_EQ(c->n, 50u);
  EXPECT_EQ(c->unmatched, 10u);
  for (Outcome& row : rows) row.id += "x";
  EXPECT_THAT(Compare(arms[0], SplitByArm(rows)[0], 0.03, 1), testing::StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Summary, HoldsWhatTheInterfaceNames) {
  Declaration d;
  d.name = "x", d.benchmark = "gsm8k", d.grader = "gsm8k";
  d.contrasts = {{"a", "b", true, 0.03}};
  const GroupAnswers group{{"m1", "m2"}, {1, 0, 0, 0, 1, 1}, {0, 1, 1, 1, 0, 0}};
  const std::vector<ArmVotes> votes = {{"a", {{2, {1}, 0}, {1, {2}, 0}}, 10}};
  const auto s = Summarize(d, Both(), group, votes);
  ASSERT_OK(s);
  EXPECT_EQ((*s)["arms"][0]["n"], 60);
  EXPECT_EQ((*s)["arms"][0]["outcomes"]["correct"], std::count(kA.begin(), kA.end(), '1'));
  EXPECT_EQ((*s)["arms"][0]["cost"]["calls"], 2.0);
  // Holm over one contrast changes nothing; the mid-p is the default.
  EXPECT_THAT((*s)["contrasts"][0]["p_holm"].get<double>(), DoubleNear(0.07551869750022883, kTolerance));
  EXPECT_EQ((*s)["contrasts"][0]["test"], "mcnemar_mid_p");
  EXPECT_EQ((*s)["contrasts"][0]["primary"], true);
  // Right by (m1), nobody, both: oracle 2/3; both wrong once, with the same answer.
  EXPECT_NEAR((*s)["group"]["oracle"].get<double>(), 2.0 / 3, kTolerance);
  EXPECT_EQ((*s)["group"]["pairs"][0]["same_wrong"], 1.0);
  // The vote: a tie of m1 and m2 wins half, a common wrong answer, a common right one. Without m1 the vote is m2's,
  // right once; without m2 right twice.
  EXPECT_NEAR((*s)["group"]["vote"]["mean"].get<double>(), 0.5, kTolerance);
  EXPECT_NEAR((*s)["group"]["selection_gap"].get<double>(), 2.0 / 3 - 0.5, kTolerance);
  // Right with 2/3 and 1/3: both 2/9, one of them 5/9, of which half.
  EXPECT_NEAR((*s)["group"]["independent_majority"].get<double>(), 0.5, kTolerance);
  EXPECT_NEAR((*s)["group"]["members"][0]["value"]["mean"].get<double>(), 0.5 - 1.0 / 3, kTolerance);
  EXPECT_NEAR((*s)["group"]["members"][1]["value"]["mean"].get<double>(), 0.5 - 2.0 / 3, kTolerance);
  // maj@1 = pass@1 = (2/3 + 1/3) / 2; maj@3: the first item is won, the second lost.
  EXPECT_NEAR((*s)["curves"][0]["points"][0]["accuracy"].get<double>(), 0.5, kTolerance);
  EXPECT_NEAR((*s)["curves"][0]["points"][2]["accuracy"].get<double>(), 0.5, kTolerance);
  EXPECT_EQ((*s)["curves"][0]["points"][2]["cost"], 30.0);
  // 60 items cannot show 3 points: the reader is warned.
  EXPECT_THAT((*s)["warnings"].dump(), HasSubstr("80 % power"));
  // 6 of 120 calls.
  EXPECT_THAT((*s)["warnings"].dump(), HasSubstr("b: 5.0 % of its calls were lost, 0.1 per question"));
  EXPECT_EQ((*s)["arms"][1]["cost"]["lost_calls"], 0.1);

  d.contrasts = {{"a", "nobody", true, 0.03}};
  EXPECT_THAT(Summarize(d, Both(), {}, {}), testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nobody")));
}

}  // namespace
}  // namespace conclave::experiment
