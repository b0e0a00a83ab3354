// SPDX-License-Identifier: Apache-2.0
// Worked by hand; against brute force in tests/golden/statistics_test.cc.
#include "orchestrator/experiment/stats/deliberation.h"

#include <gtest/gtest.h>

#include <vector>

namespace conclave::stats {
namespace {

TEST(FlipsTest, CountsAndRates) {
  std::vector<Revision> revisions;
  const auto add = [&](int times, bool before, bool after, std::optional<bool> adopted) {
    for (int i = 0; i < times; ++i) revisions.push_back({before, after, adopted});
  };
  add(6, true, true, std::nullopt);
  add(2, true, false, true);
  add(3, false, true, true);
  add(1, false, false, false);
  const Flips flips = CountFlips(revisions);
  EXPECT_EQ(flips.stayed_right, 6u);
  EXPECT_EQ(flips.right_to_wrong, 2u);
  EXPECT_EQ(flips.wrong_to_right, 3u);
  EXPECT_EQ(flips.stayed_wrong, 1u);
  EXPECT_EQ(*flips.kept, 0.75);
  EXPECT_EQ(*flips.corrected, 0.75);
  EXPECT_NEAR(*flips.conformity, 5.0 / 6, 1e-15);
  EXPECT_NEAR(flips.net, 1.0 / 12, 1e-15);
  EXPECT_NEAR(flips.p_mid, 2 * (1 + 5 + 10.0 / 2) / 32, 1e-12);  // 2 against 3 of 5
  EXPECT_FALSE(CountFlips({}).kept);
  EXPECT_FALSE(CountFlips({}).conformity);
}

TEST(VerifierTest, AJudgeThatKnowsAndOneThatTossesACoin) {
  const std::vector<Judgement> knows = {{0.9, true, true}, {0.8, true, true}, {0.2, false, false}, {0.1, false, false}};
  EXPECT_EQ(*JudgeTheJudge(knows).auc, 1);
  EXPECT_EQ(*JudgeTheJudge(knows).auc_se, 0);
  EXPECT_EQ(*JudgeTheJudge(knows).false_positive, 0);
  const std::vector<Judgement> same = {{0.5, true, true}, {0.5, false, true}};
  EXPECT_EQ(*JudgeTheJudge(same).auc, 0.5);
  EXPECT_EQ(JudgeTheJudge(same).roc.size(), 2u);
  const std::vector<Judgement> only_right = {{0.5, true, true}};
  EXPECT_FALSE(JudgeTheJudge(only_right).auc);
  EXPECT_TRUE(JudgeTheJudge(only_right).roc.empty());
  EXPECT_FALSE(JudgeTheJudge(only_right).false_positive);
}

TEST(MemberValueTest, ABadMemberTakesAway) {
  // Two members right, one wrong: without either of the two the vote is a tie.
  const std::vector<int32_t> answers = {0, 0, 1};
  const std::vector<uint8_t> right = {1, 1, 0};
  const auto values = MemberValues({3, right, answers});
  EXPECT_EQ(values[0].mean, 0.5);
  EXPECT_EQ(values[2].mean, 0);
  EXPECT_FALSE(values[0].se);  // one question
}

TEST(NoiseTest, WhatMoreSamplesCanShrink) {
  const auto budget = BudgetNoise({.sampling_a = 0.16, .sampling_b = 0, .between = 0.04}, 4, 4, 100);
  ASSERT_TRUE(budget);
  EXPECT_NEAR(budget->variance, 0.0008, 1e-15);
  EXPECT_NEAR(budget->sampling_share, 0.5, 1e-12);
  EXPECT_NEAR(*budget->samples_enough, 16, 1e-12);
  EXPECT_NEAR(budget->mde80_endless / budget->mde80, std::sqrt(0.5), 1e-12);
  EXPECT_FALSE(BudgetNoise({}, 1, 1, 10));
  EXPECT_FALSE(BudgetNoise({.sampling_a = 0.1, .sampling_b = 0, .between = 0}, 1, 1, 10)->samples_enough);
}

}  // namespace
}  // namespace conclave::stats
