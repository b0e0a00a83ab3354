// SPDX-License-Identifier: Apache-2.0
// Worked by hand; against numpy and brute force in tests/golden/statistics_test.cc.
#include "orchestrator/experiment/stats/curve.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace conclave::stats {
namespace {

const std::vector<size_t> kSizes = {1, 2, 4};

// Every question has three right votes of four, at a cost of 10 each: accuracy 3/4 at one and at two votes (two differ
// in half of the subsets: 1/2 + 1/2 of 1/2), 1 at four.
struct Flat {
  std::vector<double> scores, costs, vote_costs, accuracies;
  explicit Flat(double cost, size_t n = 20) {
    for (size_t i = 0; i < n; ++i) {
      scores.push_back(i % 2 == 0 ? 1 : 0);
      costs.push_back(cost);
      vote_costs.insert(vote_costs.end(), {10, 20, 40});
    }
    const std::vector<VoteCounts> votes(n, {.correct = 3, .wrong = {1}, .no_answer = 0});
    accuracies = MajorityTable(votes, kSizes).value();
  }
};

std::optional<MatchedDifference> Compare(const Flat& flat, const BootstrapOptions& options,
                                         std::span<const uint32_t> clusters = {}) {
  const CostInput cost{flat.costs, flat.vote_costs};
  return CompareAtCosts({flat.scores, flat.accuracies, {&cost, 1}, clusters}, kSizes, options)[0];
}

TEST(MatchedTest, ReadsTheCurveAtTheArmsOwnCost) {
  // Cost sqrt(20 * 40) is half way from two votes to four in log cost.
  const Flat flat(std::sqrt(800.0));
  const auto match = Compare(flat, {.seed = 1, .replicates = 2000});
  ASSERT_TRUE(match);
  EXPECT_EQ(match->range, MatchRange::kInside);
  EXPECT_NEAR(*match->votes, std::sqrt(8.0), 1e-12);
  EXPECT_NEAR(*match->accuracy, 0.875, 1e-12);
  EXPECT_NEAR(match->difference.estimate, 0.5 - 0.875, 1e-12);
  // The curve has no spread: the error is that of a mean of twenty coins, sqrt(1/4 / 20).
  EXPECT_NEAR(*match->difference.se, std::sqrt(0.25 / 20), 0.005);
  EXPECT_EQ(match->difference.defined, 2000u);
}

TEST(MatchedTest, NothingIsExtrapolated) {
  for (const auto& [cost, range] : {std::pair(10.0, MatchRange::kInside), std::pair(9.99, MatchRange::kBelow),
                                    std::pair(40.0, MatchRange::kInside), std::pair(40.01, MatchRange::kAbove)}) {
    const auto match = Compare(Flat(cost), {.replicates = 100});
    ASSERT_TRUE(match);
    EXPECT_EQ(match->range, range) << cost;
    EXPECT_EQ(match->accuracy.has_value(), range == MatchRange::kInside);
    EXPECT_EQ(std::isnan(match->difference.estimate), range != MatchRange::kInside);
    EXPECT_EQ(match->least, 10);
    EXPECT_EQ(match->most, 40);
  }
}

TEST(MatchedTest, CostsOfCallsSideBySideAreGivenPerSize) {
  Flat flat(3.0);
  flat.vote_costs.clear();
  for (size_t i = 0; i < 20; ++i) flat.vote_costs.insert(flat.vote_costs.end(), {2, 3, 4});  // the slowest of k
  const auto match = Compare(flat, {.replicates = 100});
  ASSERT_TRUE(match);
  EXPECT_NEAR(*match->votes, 2, 1e-12);
}

TEST(MatchedTest, KindsOfCostTogetherAreAsEachAlone) {
  Flat flops(25), seconds(12);
  for (size_t i = 0; i < 20; ++i) seconds.vote_costs[3 * i + 1] = 11 + static_cast<double>(i % 3);
  const std::vector<CostInput> costs = {{flops.costs, flops.vote_costs}, {seconds.costs, seconds.vote_costs}};
  const BootstrapOptions options = {.seed = 4, .replicates = 500};
  const auto both = CompareAtCosts({flops.scores, flops.accuracies, costs}, kSizes, options);
  ASSERT_EQ(both.size(), 2u);
  for (const auto& [alone, together] :
       {std::pair(Compare(flops, options), both[0]), {Compare(seconds, options), both[1]}}) {
    ASSERT_TRUE(alone && together);
    EXPECT_EQ(alone->cost, together->cost);
    EXPECT_EQ(alone->difference.estimate, together->difference.estimate);
    EXPECT_EQ(alone->difference.percentile->lo, together->difference.percentile->lo);
    EXPECT_EQ(alone->difference.bca->hi, together->difference.bca->hi);
  }
}

TEST(MatchedTest, SharesOfAWholeAreAsCostsInFull) {
  Flat flat(25);
  std::vector<double> whole;
  for (size_t i = 0; i < 20; ++i) {
    const double each = 5 + static_cast<double>(i);
    whole.push_back(4 * each);
    for (size_t s = 0; s < kSizes.size(); ++s) flat.vote_costs[3 * i + s] = each * static_cast<double>(kSizes[s]);
  }
  const std::vector<double> shares = {0.25, 0.5, 1};
  const CostInput in_shares{.arm = flat.costs, .whole = whole, .shares = shares};
  DrawCache draws;
  for (int time = 0; time < 2; ++time) {  // the second time from the draws that were kept
    const BootstrapOptions options = {.seed = 4, .replicates = 500, .draws = &draws};
    const auto by_shares = CompareAtCosts({flat.scores, flat.accuracies, {&in_shares, 1}}, kSizes, options)[0];
    const auto in_full = Compare(flat, {.seed = 4, .replicates = 500});
    ASSERT_TRUE(by_shares && in_full);
    EXPECT_NEAR(*by_shares->votes, *in_full->votes, 1e-12);
    EXPECT_NEAR(*by_shares->difference.se, *in_full->difference.se, 1e-12);
    EXPECT_NEAR(by_shares->difference.percentile->lo, in_full->difference.percentile->lo, 1e-12);
    EXPECT_NEAR(by_shares->difference.bca->hi, in_full->difference.bca->hi, 1e-12);
  }
}

TEST(MatchedTest, WhatCannotBeFormedIsNull) {
  EXPECT_TRUE(CompareAtCosts({}, kSizes).empty());
  EXPECT_FALSE(Compare(Flat(20, 0), {}));
  const std::vector<VoteCounts> two = {{.correct = 2, .wrong = {}, .no_answer = 0}};
  EXPECT_TRUE(MajorityTable(two, std::vector<size_t>{1, 2}));
  EXPECT_FALSE(MajorityTable(two, std::vector<size_t>{1, 3}));
  Flat free(20);
  free.vote_costs.assign(60, 0);
  EXPECT_FALSE(Compare(free, {}));
}

TEST(MatchedTest, ClustersWiden) {
  Flat flat(20, 40);
  std::vector<uint32_t> clusters;
  for (size_t i = 0; i < 40; ++i) {
    flat.scores[i] = i < 20 ? 1 : 0;
    clusters.push_back(static_cast<uint32_t>(i / 4));
  }
  const double plain = *Compare(flat, {.replicates = 2000})->difference.se;
  // Ten clusters of four that are alike: twice the error.
  EXPECT_NEAR(*Compare(flat, {.replicates = 2000}, clusters)->difference.se / plain, 2, 0.15);
}

TEST(FrontierTest, HowOftenAnArmIsOnIt) {
  // Two questions. The dear arm is right on the first only, the cheap one on the second only: dear is dominated unless
  // the draw holds the first question at least once more than .. (2,0): dear better. (1,1): equal accuracy, cheaper
  // wins. (0,2): cheap better. So dear is on the frontier in a quarter of the draws, cheap always.
  const std::vector<double> scores = {1, 0, 0, 1}, costs = {5, 5, 1, 1};
  const auto p = FrontierProbability(scores, costs, 2, {}, {.seed = 9, .replicates = 20'000});
  EXPECT_NEAR(p[0], 0.25, 0.0125);  // four standard errors
  EXPECT_EQ(p[1], 1);
  EXPECT_TRUE(FrontierProbability(std::vector<double>{1, 0}, std::vector<double>{1, 1}, 2).empty());
}

}  // namespace
}  // namespace conclave::stats
