// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/pick/pick.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace conclave::orchestrator {
namespace {

Ballot Vote(std::string_view answer, double weight = 1, int64_t tokens = 0) { return {true, answer, weight, tokens}; }
const Ballot kEmpty = {false, "", 1, 0};

TEST(Pick, MajorityByTheFirstOfTheMostFrequent) {
  const std::vector<Ballot> ballots = {Vote("7"), Vote("8"), Vote("8"), Vote("9")};
  EXPECT_EQ(Pick(PickRule::kMajority, ballots).winner, 1);
  EXPECT_FALSE(Pick(PickRule::kMajority, ballots).tie);
}

TEST(Pick, TiesGoToTheSmallestIndexAndAreReported) {
  const std::vector<Ballot> ballots = {kEmpty, Vote("b"), Vote("a"), Vote("a"), Vote("b")};
  for (PickRule rule : {PickRule::kMajority, PickRule::kWeightedVote, PickRule::kBestOfN}) {
    const Picked picked = Pick(rule, ballots);
    EXPECT_EQ(picked.winner, 1);
    EXPECT_TRUE(picked.tie);
  }
}

TEST(Pick, AnEmptyAnswerNeverWinsWhileThereIsAnother) {
  std::vector<Ballot> ballots(50, kEmpty);
  for (Ballot& ballot : ballots) ballot.weight = 1e9;
  ballots.push_back(Vote("x", 0));
  for (PickRule rule : {PickRule::kMajority, PickRule::kWeightedVote, PickRule::kBestOfN, PickRule::kFirst}) {
    EXPECT_EQ(Pick(rule, ballots).winner, 50);
    EXPECT_FALSE(Pick(rule, ballots).tie);
  }
}

TEST(Pick, NothingButEmptyAnswers) {
  std::vector<Ballot> ballots(3, kEmpty);
  ballots[1].weight = 2;
  EXPECT_EQ(Pick(PickRule::kMajority, ballots).winner, 0);
  EXPECT_EQ(Pick(PickRule::kFirst, ballots).winner, 0);
  EXPECT_EQ(Pick(PickRule::kBestOfN, ballots).winner, 1);
  EXPECT_EQ(Pick(PickRule::kWeightedVote, ballots).winner, 1);
  EXPECT_EQ(Pick(PickRule::kMajority, {}).winner, -1);
}

TEST(Pick, WeightedVoteSumsWeights) {
  const std::vector<Ballot> ballots = {Vote("a", 0.4), Vote("b", 0.5), Vote("a", 0.2), Vote("b", 0.05)};
  EXPECT_EQ(Pick(PickRule::kWeightedVote, ballots).winner, 0);
  // Weights that say nothing leave the count to decide.
  const std::vector<Ballot> zeros = {Vote("a", 0), Vote("b", -3), Vote("b", 0)};
  EXPECT_EQ(Pick(PickRule::kWeightedVote, zeros).winner, 1);
  EXPECT_FALSE(Pick(PickRule::kWeightedVote, zeros).tie);
}

TEST(Pick, BestOfNBreaksTiesByVotesThenTokens) {
  EXPECT_EQ(Pick(PickRule::kBestOfN, std::vector<Ballot>{Vote("a", 1), Vote("b", 1), Vote("b", 0.5)}).winner, 1);
  const std::vector<Ballot> shorter = {Vote("a", 1, 30), Vote("b", 1, 20)};
  EXPECT_EQ(Pick(PickRule::kBestOfN, shorter).winner, 1);
  EXPECT_FALSE(Pick(PickRule::kBestOfN, shorter).tie);
  const std::vector<Ballot> same = {Vote("a", 1, 20), Vote("a", 1, 20)};
  EXPECT_FALSE(Pick(PickRule::kBestOfN, same).tie) << "one answer cannot tie with itself";
}

TEST(Pick, OneBallotIsItself) {
  for (PickRule rule : {PickRule::kMajority, PickRule::kWeightedVote, PickRule::kBestOfN, PickRule::kFirst}) {
    EXPECT_EQ(Pick(rule, std::vector<Ballot>{Vote("a", 0)}).winner, 0);
    EXPECT_EQ(Pick(rule, std::vector<Ballot>{kEmpty}).winner, 0);
  }
}

TEST(Votes, SharesCountEmptyAnswersAsNobodys) {
  const std::vector<Ballot> ballots = {Vote("a"), Vote("b"), Vote("a"), Vote("a"), kEmpty};
  const auto groups = GroupVotes(ballots);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].answer, "a");
  EXPECT_EQ(groups[0].count, 3);
  EXPECT_EQ(groups[1].first, 1);
  const VoteSummary votes = SummarizeVotes(groups, ballots.size());
  EXPECT_EQ(votes.total, 5);
  EXPECT_EQ(votes.count, 4);
  EXPECT_EQ(votes.distinct, 2);
  EXPECT_DOUBLE_EQ(votes.top, 0.6);
  EXPECT_DOUBLE_EQ(votes.margin, 0.4);
  const VoteSummary none = SummarizeVotes({}, 0);
  EXPECT_EQ(none.top, 0);
  EXPECT_EQ(none.margin, 0);
}

TEST(PickSeveral, TheBestInFrontAndEmptyAnswersOnlyAmongThemselves) {
  const std::vector<Ballot> ballots = {Vote("a", 1), kEmpty, Vote("b", 3), Vote("a", 2), Vote("c", 2, 5)};
  // Weights 3 (b), then 2 twice: a has two votes, c one.
  EXPECT_EQ(PickSeveral(PickRule::kBestOfN, ballots, 3), (std::vector<int32_t>{2, 3, 4}));
  EXPECT_EQ(PickSeveral(PickRule::kBestOfN, ballots, 9), (std::vector<int32_t>{2, 3, 4, 0}));
  EXPECT_EQ(PickSeveral(PickRule::kFirst, ballots, 2), (std::vector<int32_t>{0, 2}));
  EXPECT_EQ(PickSeveral(PickRule::kFirst, std::vector<Ballot>{kEmpty, kEmpty}, 1), (std::vector<int32_t>{0}));
  EXPECT_TRUE(PickSeveral(PickRule::kBestOfN, std::vector<Ballot>{}, 3).empty());
  for (size_t i = 0; i < ballots.size(); ++i) {
    const std::vector<Ballot> first(ballots.begin(), ballots.begin() + static_cast<ptrdiff_t>(i) + 1);
    EXPECT_EQ(PickSeveral(PickRule::kBestOfN, first, 1)[0], Pick(PickRule::kBestOfN, first).winner);
  }
}

TEST(Borda, SharesOfPlaces) {
  EXPECT_EQ(BordaShares(std::vector<int32_t>{2, 0, 1}, 3), (std::vector<double>{0.5, 0, 1}));
  // Of five, one is named; the others share places 1 to 4: (3/4 + 1/2 + 1/4 + 0) / 4 = 3/8.
  EXPECT_EQ(BordaShares(std::vector<int32_t>{1}, 5), (std::vector<double>{0.375, 1, 0.375, 0.375, 0.375}));
  EXPECT_EQ(BordaShares(std::vector<int32_t>{}, 2), (std::vector<double>{0.5, 0.5}));
  // Whatever is named, the shares sum to half the candidates.
  for (int32_t count = 2; count < 9; ++count) {
    std::vector<int32_t> order;
    for (int32_t named = 0; named <= count; ++named) {
      double sum = 0;
      for (const double share : BordaShares(order, count)) sum += share;
      EXPECT_NEAR(sum, count / 2.0, 1e-12);
      order.push_back(count - 1 - named);
    }
  }
}

// Against a brute-force statement of the rules: for every ballot vector the winner is the least index among the best.
TEST(Pick, AgreesWithBruteForce) {
  constexpr uint32_t kSeed = 7;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 3000; ++round) {
    std::vector<Ballot> ballots(1 + random() % 8);
    for (Ballot& ballot : ballots) {
      static constexpr std::string_view kAnswers[] = {"a", "b", "c"};
      ballot = Vote(kAnswers[random() % 3], static_cast<double>(random() % 3));
      ballot.has_answer = random() % 5 != 0;
    }
    if (std::none_of(ballots.begin(), ballots.end(), [](const Ballot& b) { return b.has_answer; })) continue;
    const auto score = [&](size_t i, bool weighted) {
      double sum = 0, count = 0;
      for (const Ballot& b : ballots) {
        if (!b.has_answer || b.answer != ballots[i].answer) continue;
        sum += b.weight, count += 1;
      }
      return weighted ? std::pair(sum, count) : std::pair(count, 0.0);
    };
    for (bool weighted : {false, true}) {
      size_t best = ballots.size();
      for (size_t i = 0; i < ballots.size(); ++i) {
        if (ballots[i].has_answer && (best == ballots.size() || score(i, weighted) > score(best, weighted))) best = i;
      }
      const Picked picked = Pick(weighted ? PickRule::kWeightedVote : PickRule::kMajority, ballots);
      EXPECT_EQ(picked.winner, static_cast<int32_t>(best)) << "seed " << kSeed << " round " << round;
    }
  }
}

}  // namespace
}  // namespace conclave::orchestrator
