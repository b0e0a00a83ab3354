// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/votes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "common/hash.h"
#include "orchestrator/experiment/stats/diversity.h"

namespace conclave::stats {
namespace {

// Enumerates every size-k subset of the votes (at most 12).
double MajorityByEnumeration(const VoteCounts& votes, size_t k) {
  std::vector<int> ballots(votes.correct, 0);
  for (size_t c = 0; c < votes.wrong.size(); ++c)
    ballots.insert(ballots.end(), votes.wrong[c], static_cast<int>(c) + 1);
  ballots.insert(ballots.end(), votes.no_answer, -1);
  double wins = 0;
  double subsets = 0;
  for (uint32_t mask = 0; mask < (1u << ballots.size()); ++mask) {
    if (std::popcount(mask) != static_cast<int>(k)) continue;
    ++subsets;
    std::vector<int> tally(votes.wrong.size() + 1, 0);
    for (size_t i = 0; i < ballots.size(); ++i) {
      if ((mask >> i & 1) != 0 && ballots[i] >= 0) ++tally[static_cast<size_t>(ballots[i])];
    }
    const int most = *std::max_element(tally.begin(), tally.end());
    if (most == 0 || tally[0] != most) continue;
    wins += 1.0 / static_cast<double>(std::count(tally.begin(), tally.end(), most));
  }
  return wins / subsets;
}

TEST(VotesTest, MajorityIsTheAverageOverAllSubsets) {
  constexpr uint64_t kSeed = 20240611;
  for (uint64_t trial = 0; trial < 60; ++trial) {
    VoteCounts votes;
    votes.wrong.assign(3, 0);
    const size_t n = 1 + static_cast<size_t>(PhiloxUniform(kSeed, trial, 0) * 10);
    for (size_t i = 0; i < n; ++i) {
      const int kind = static_cast<int>(PhiloxUniform(kSeed, trial, 1 + i) * 5);
      if (kind == 0) ++votes.correct;
      if (kind == 4) ++votes.no_answer;
      if (kind >= 1 && kind <= 3) ++votes.wrong[static_cast<size_t>(kind) - 1];
    }
    for (size_t k = 1; k <= n; ++k) {
      EXPECT_NEAR(*MajorityAtK(votes, k), MajorityByEnumeration(votes, k), 1e-12)
          << "seed " << kSeed << " trial " << trial << " k " << k;
    }
  }
}

// specs/deliberation.md §4.14 (iv).
TEST(VotesTest, OneVoteIsOnePassAndAVoteNeverBeatsTheOracle) {
  for (uint32_t correct = 0; correct <= 6; ++correct) {
    const VoteCounts votes = {.correct = correct, .wrong = {3, 2, 1}, .no_answer = 2};
    const size_t n = static_cast<size_t>(votes.total());
    EXPECT_NEAR(*MajorityAtK(votes, 1), *PassAtK(n, correct, 1), 1e-15);
    double before = 0;
    for (size_t k = 1; k <= n; ++k) {
      EXPECT_GE(*PassAtK(n, correct, k), before);
      before = *PassAtK(n, correct, k);
      EXPECT_LE(*MajorityAtK(votes, k), before + 1e-15);
    }
  }
}

TEST(VotesTest, NoAnswerTakesASeatButNeverWins) {
  EXPECT_EQ(*MajorityAtK({.correct = 0, .wrong = {}, .no_answer = 5}, 5), 0);
  EXPECT_EQ(*MajorityAtK({.correct = 1, .wrong = {}, .no_answer = 4}, 5), 1);
  EXPECT_NEAR(*MajorityAtK({.correct = 1, .wrong = {1}, .no_answer = 4}, 6), 0.5, 1e-15);
}

TEST(VotesTest, LargeGroupsStayFinite) {
  const VoteCounts votes = {.correct = 300, .wrong = {200, 100}, .no_answer = 20};
  EXPECT_GT(*MajorityAtK(votes, 61), 0.8);
  EXPECT_LE(*MajorityAtK(votes, 61), 1);
  EXPECT_FALSE(MajorityAtK({.correct = kVotersMax, .wrong = {1}, .no_answer = 0}, 3));
  EXPECT_TRUE(MajorityAtK({.correct = kVotersMax - 1, .wrong = {1}, .no_answer = 0}, 3));
}

TEST(VotesTest, PassRates) {
  EXPECT_NEAR(*PassAtK(10, 3, 2), 1 - 21.0 / 45, 1e-15);  // 1 - C(7,2)/C(10,2)
  EXPECT_NEAR(*PassAllK(10, 3, 2), 3.0 / 45, 1e-15);
  EXPECT_EQ(*PassAtK(5, 5, 5), 1);
  EXPECT_EQ(*PassAtK(5, 0, 5), 0);
  EXPECT_FALSE(PassAtK(5, 1, 6));  // fewer samples than k: undefined, not 0
  EXPECT_FALSE(PassAtK(5, 1, 0));
  for (size_t k = 1; k <= 10; ++k) {
    EXPECT_NEAR(*PassShareK(10, 4, k, 1.0), *PassAllK(10, 4, k), 1e-12);
    EXPECT_NEAR(*PassShareK(10, 4, k, 1e-6), *PassAtK(10, 4, k), 1e-12);
  }
}

TEST(VotesTest, Curve) {
  const std::vector<VoteCounts> questions = {{.correct = 3, .wrong = {}, .no_answer = 0},
                                             {.correct = 1, .wrong = {2}, .no_answer = 0}};
  const std::vector<size_t> sizes = {1, 3, 4};
  const std::vector<Estimate> curve = VoteCurve(questions, sizes);
  EXPECT_NEAR(curve[0].mean, (1 + 1.0 / 3) / 2, 1e-15);
  EXPECT_NEAR(curve[1].mean, 0.5, 1e-15);
  EXPECT_EQ(curve[2].n, 0u);  // no question has four votes
}

// scipy 1.17 binom and betabinom; the rounded values are in specs/evaluation.md.
TEST(VotesTest, Condorcet) {
  EXPECT_NEAR(CondorcetMajority(21, 0.7), 0.9736100592987155, 1e-12);
  EXPECT_NEAR(CondorcetMajority(21, 0.7, 0.1), 0.8625943740528406, 1e-11);
  EXPECT_NEAR(CondorcetMajority(21, 0.7, 0.3), 0.7647243244807433, 1e-11);
  EXPECT_NEAR(CondorcetMajority(21, 0.7, 0.5), 0.7252008957410094, 1e-11);
  EXPECT_NEAR(CondorcetMajority(20, 0.7), 0.9674466431186981, 1e-12);
  EXPECT_NEAR(CondorcetMajority(1, 0.7, 0.3), 0.7, 1e-12);
}

// specs/deliberation.md §4.14 (ii): nine judges with mean correlation .389 count as 2.19.
TEST(VotesTest, EffectiveVotes) {
  EXPECT_NEAR(*EffectiveVotes(9, 0.389), 2.19, 0.005);
  EXPECT_EQ(*EffectiveVotes(9, 0), 9);
  EXPECT_EQ(*EffectiveVotes(9, 1), 1);
  EXPECT_FALSE(EffectiveVotes(3, -0.5));
}

TEST(DiversityTest, SmallGroupByHand) {
  // Four questions, three members; classes: 0 is right, others wrong, -1 no answer.
  const std::vector<int32_t> answers = {0, 0, 1, /**/ 1, 1, 0, /**/ 2, 2, 2, /**/ -1, -1, 0};
  std::vector<uint8_t> correct;
  for (int32_t a : answers) correct.push_back(a == 0 ? 1 : 0);
  const GroupDiversity group = Diversity({.members = 3, .correct = correct, .answers = answers});
  EXPECT_EQ(group.questions, 4u);
  EXPECT_EQ(group.accuracy[0], 0.25);
  EXPECT_EQ(group.accuracy[2], 0.5);
  EXPECT_EQ(group.oracle, 0.75);
  EXPECT_EQ(group.all_wrong, 0.25);
  const PairDiversity& first = group.pairs[PairIndex(3, 0, 1)];
  EXPECT_EQ(first.both, 1u);
  EXPECT_EQ(first.neither, 3u);
  EXPECT_EQ(*first.phi, 1);
  EXPECT_EQ(*first.yule_q, 1);
  EXPECT_NEAR(*first.same_wrong, 2.0 / 3, 1e-15);  // two equal wrong answers; two ⊥ are not alike
  EXPECT_EQ(first.double_fault, 0.75);
  const PairDiversity& second = group.pairs[PairIndex(3, 1, 2)];
  EXPECT_EQ(second.b_only, 2u);
  EXPECT_EQ(second.disagreement, 0.75);
  EXPECT_NEAR(*second.phi, (0.0 * 1 - 1 * 2) / std::sqrt(1.0 * 3 * 2 * 2), 1e-15);
  EXPECT_EQ(*second.yule_q, -1);
  EXPECT_NEAR(*group.mean_error_correlation, (1 - 2 * 2 / std::sqrt(12.0)) / 3, 1e-12);
  EXPECT_NEAR(*group.same_wrong, 4.0 / 5, 1e-15);  // 2 of 3, 1 of 1, 1 of 1
}

TEST(DiversityTest, AMemberThatIsAlwaysRightCorrelatesWithNobody) {
  const std::vector<uint8_t> correct = {1, 0, 1, 1};
  const GroupDiversity group = Diversity({.members = 2, .correct = correct, .answers = {}});
  EXPECT_FALSE(group.pairs[0].phi);
  EXPECT_FALSE(group.mean_error_correlation);
  EXPECT_FALSE(group.effective_votes);
  EXPECT_FALSE(group.same_wrong);
}

// specs/deliberation.md §4.14 (iii): nobody all wrong in 330 questions bounds the rate by .0111.
TEST(DiversityTest, BoundOnTheAllWrongRate) {
  const std::vector<uint8_t> correct(330, 1);
  EXPECT_NEAR(*Diversity({.members = 1, .correct = correct, .answers = {}}).all_wrong_upper95, 0.0111, 5e-5);
}

TEST(DiversityTest, PairsAreInOrder) {
  size_t next = 0;
  for (size_t a = 0; a < 6; ++a) {
    for (size_t b = a + 1; b < 6; ++b) EXPECT_EQ(PairIndex(6, a, b), next++);
  }
}

}  // namespace
}  // namespace conclave::stats
