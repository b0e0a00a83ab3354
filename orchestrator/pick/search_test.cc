// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/pick/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace conclave::orchestrator {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr SearchModel kModels[] = {SearchModel::kMixed, SearchModel::kAggregated};

// Grows a tree by single trials; `reward` of (parent, how many came before at that parent).
template <typename Reward>
std::vector<SearchNode> Grow(SearchModel model, int trials, uint64_t seed, const Reward& reward, int32_t batch = 1) {
  std::vector<SearchNode> tree;
  while (static_cast<int>(tree.size()) < trials) {
    std::vector<SearchNode> added;
    for (const int32_t parent : AskSearch(model, tree, batch, seed * 1000 + tree.size())) {
      added.push_back({parent, reward(parent, static_cast<int>(tree.size() + added.size()))});
    }
    tree.insert(tree.end(), added.begin(), added.end());
  }
  return tree;
}

TEST(Search, AnEmptyTreeAsksAfresh) {
  for (const SearchModel model : kModels) {
    EXPECT_THAT(AskSearch(model, {}, 3, 1), Each(-1));
    EXPECT_TRUE(AskSearch(model, {}, 0, 1).empty());
  }
}

TEST(Search, TheSameTreeAndSeedAskTheSame) {
  const std::vector<SearchNode> tree = {{-1, 0.2}, {-1, 0.7}, {1, 0.8}, {1, 0.4}, {2, 0.9}};
  for (const SearchModel model : kModels) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const std::vector<int32_t> asked = AskSearch(model, tree, 4, seed);
      EXPECT_EQ(asked, AskSearch(model, tree, 4, seed)) << "asking tells nothing";
      EXPECT_EQ(asked[0], AskSearch(model, tree, 1, seed)[0]) << "the first trial of a batch is the one asked alone";
    }
  }
}

// §4.14 (x): with all scores equal the search stays near-uniform ..
TEST(Search, WithEqualScoresNoChildIsPreferred) {
  // Five children of the same reward, none below: how often is each entered, over many seeds? By symmetry all the same:
  // chi-square of 5 cells over those entered, 4 degrees of freedom, 18.47 at 0.001.
  const std::vector<SearchNode> tree(5, SearchNode{-1, 0.5});
  for (const SearchModel model : kModels) {
    std::map<int32_t, double> chosen;
    for (uint64_t seed = 1; seed <= 2000; ++seed) chosen[AskSearch(model, tree, 1, seed)[0]] += 1;
    const double afresh = chosen[-1], entered = 2000 - afresh;
    EXPECT_GT(afresh, 100) << "asking afresh stays open";
    EXPECT_GT(entered, 500);
    double chi = 0;
    for (int32_t child = 0; child < 5; ++child) chi += std::pow(chosen[child] - entered / 5, 2) / (entered / 5);
    EXPECT_LT(chi, 18.47);
  }
}

// Of the last thirty of forty trials, the share that is made below the third answer or what came of it, when its line
// scores `good` and all else about 0.1.
double ShareBelowTheThird(SearchModel model, double good) {
  double below = 0, total = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::vector<bool> line;
    const std::vector<SearchNode> tree = Grow(model, 40, seed, [&](int32_t parent, int made) {
      line.push_back(made == 2 || (parent >= 0 && line[static_cast<size_t>(parent)]));
      return (line.back() ? good : 0.1) + 0.01 * (made % 7);
    });
    for (size_t i = 10; i < tree.size(); ++i) {
      below += tree[i].parent >= 0 && line[static_cast<size_t>(tree[i].parent)] ? 1 : 0;
      total += 1;
    }
  }
  return below / total;
}

// .. and with one good child it deepens there: half of what follows at least, and several times what it would get
// otherwise.
TEST(Search, WithOneGoodChildItDeepensThere) {
  for (const SearchModel model : kModels) {
    const double good = ShareBelowTheThird(model, 0.9);
    EXPECT_GT(good, 0.5);
    EXPECT_GT(good, 3 * ShareBelowTheThird(model, 0.1));
  }
}

TEST(Search, ABatchSpreadsByItsPendingTrials) {
  // One answer of reward 1 beside poor ones. Without pseudo-observations every trial of a batch would meet the same
  // posterior; with them a batch of 16 goes to more places than one.
  const std::vector<SearchNode> tree = {{-1, 0.1}, {-1, 0.9}, {-1, 0.2}, {1, 0.8}};
  for (const SearchModel model : kModels) {
    double places = 0;
    for (uint64_t seed = 1; seed <= 50; ++seed) {
      const std::vector<int32_t> asked = AskSearch(model, tree, 16, seed);
      places += static_cast<double>(std::map<int32_t, int>([&] {
                                      std::map<int32_t, int> counts;
                                      for (const int32_t place : asked) ++counts[place];
                                      return counts;
                                    }())
                                        .size());
    }
    EXPECT_GT(places / 50, 2);
    EXPECT_EQ(Grow(
                  model, 32, 5, [](int32_t, int made) { return 0.1 * (made % 9); }, 8)
                  .size(),
              32u);
  }
}

TEST(Search, AMixedModelDoesNotEnterWhatSaysNoMore) {
  // Below the first child four answers, three of them the same: stale. Below the second four different ones.
  const std::vector<SearchNode> tree = {{-1, 0.9}, {0, 0.9}, {0, 0.9}, {0, 0.7},
                                        {-1, 0.2}, {4, 0.3}, {4, 0.4}, {4, 0.5}};
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const int32_t asked = AskSearch(SearchModel::kMixed, tree, 1, seed)[0];
    EXPECT_TRUE(asked == -1 || asked >= 4) << asked;
  }
}

TEST(Search, RewardsOutOfRangeAreClamped) {
  for (const SearchModel model : kModels) {
    const std::vector<SearchNode> wild = {{-1, 7}, {-1, -3}, {-1, std::nan("")}};
    const std::vector<SearchNode> tame = {{-1, 1}, {-1, 0}, {-1, 0}};
    for (uint64_t seed = 1; seed <= 20; ++seed)
      EXPECT_EQ(AskSearch(model, wild, 2, seed), AskSearch(model, tame, 2, seed));
  }
}

TEST(NextArm, UnusedFirstThenTheUpperBound) {
  EXPECT_EQ(NextArm(std::vector<Arm>{{3, 3}, {0, 0}, {0, 0}}), 1u);
  // Means 0.5 and 0.4; bounds 0.5 + sqrt(2) sqrt(ln 20 / 16) = 1.112 and 0.4 + sqrt(2) sqrt(ln 20 / 4) = 1.624.
  EXPECT_EQ(NextArm(std::vector<Arm>{{16, 8}, {4, 1.6}}), 1u);
  EXPECT_EQ(NextArm(std::vector<Arm>{{10, 9}, {10, 1}}), 0u);
  EXPECT_EQ(NextArm(std::vector<Arm>{{2, 1}, {2, 1}}), 0u) << "a tie goes to the first";
}

}  // namespace
}  // namespace conclave::orchestrator
