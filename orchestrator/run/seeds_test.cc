// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/seeds.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/hash.h"

namespace conclave::orchestrator {
namespace {

TEST(Seeds, AreStableForGood) {
  // The rule of the header, written out.
  const uint64_t question = QuestionHash({{"question", "6 x 7?"}});
  uint64_t h = Mix64(5);
  for (const uint64_t part : {question, Fnv1a64("review[2].revise"), Fnv1a64("dense/a"), uint64_t{3}, uint64_t{0}}) {
    h = Mix64(h ^ part);
  }
  EXPECT_EQ(DeriveSeed({5, question, "review[2].revise", "dense/a", 3, -1}), h & 0x7fffffffffffffffULL);
}

TEST(Seeds, EveryPartMatters) {
  std::set<uint64_t> seeds;
  for (uint64_t run : {0, 1}) {
    for (uint64_t question : {0, 1}) {
      for (const char* path : {"a", "b"}) {
        for (const char* member : {"m", "n"}) {
          for (int sample : {0, 1}) {
            for (int subject : {-1, 0, 1}) seeds.insert(DeriveSeed({run, question, path, member, sample, subject}));
          }
        }
      }
    }
  }
  EXPECT_EQ(seeds.size(), 96u);
}

TEST(Seeds, QuestionsAreToldApartByNameAndValue) {
  EXPECT_NE(QuestionHash({{"a", "b"}}), QuestionHash({{"ab", ""}}));
  EXPECT_NE(QuestionHash({{"a", "b"}, {"c", "d"}}), QuestionHash({{"a", "bc"}, {"", "d"}}));
  EXPECT_EQ(QuestionHash({{"a", "b"}}), QuestionHash({{"a", "b"}}));
}

TEST(Permutation, IsOneAndIsUniform) {
  std::map<std::vector<int32_t>, int> counts;
  constexpr int kDraws = 6000;
  for (int i = 0; i < kDraws; ++i) {
    const std::vector<int32_t> order = Permutation(Mix64(static_cast<uint64_t>(i)), 3);
    std::vector<int32_t> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    ASSERT_EQ(sorted, (std::vector<int32_t>{0, 1, 2}));
    ++counts[order];
  }
  ASSERT_EQ(counts.size(), 6u);
  // Chi-square with 5 degrees of freedom; 20.5 is passed by chance once in a thousand, and the draws are fixed.
  double chi = 0;
  for (const auto& [order, count] : counts) chi += (count - kDraws / 6.0) * (count - kDraws / 6.0) / (kDraws / 6.0);
  EXPECT_LT(chi, 20.5);
  EXPECT_TRUE(Permutation(1, 0).empty());
}

}  // namespace
}  // namespace conclave::orchestrator
