// SPDX-License-Identifier: Apache-2.0
// Room for grouped products, on any machine: enough for every way that tokens can choose, and bounded.
#include "engine/ops/cuda/grouped_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace conclave::engine::cuda {
namespace {

int64_t Items(const std::vector<int64_t>& pairs_of_matrix, int64_t tile) {
  int64_t items = 0;
  for (const int64_t pairs : pairs_of_matrix) items += (pairs + tile - 1) / tile;
  return items;
}

TEST(GroupedItemsMax, IsReachedAndNeverExceeded) {
  for (const int64_t matrices : {1, 2, 3, 7}) {
    for (const int64_t tile : {2, 3, 8}) {
      for (int64_t pairs = 1; pairs <= 40; ++pairs) {
        // The worst: as many matrices as can be have one pair more than whole tiles.
        int64_t worst = 0;
        std::mt19937 rng(static_cast<uint32_t>(pairs));
        for (int trial = 0; trial < 400; ++trial) {
          std::vector<int64_t> spread(static_cast<size_t>(matrices));
          for (int64_t i = 0; i < pairs; ++i) ++spread[rng() % spread.size()];
          worst = std::max(worst, Items(spread, tile));
        }
        std::vector<int64_t> ones(static_cast<size_t>(matrices));
        for (int64_t i = 0; i < std::min(pairs, matrices); ++i) ones[static_cast<size_t>(i)] = 1;
        ones[0] += std::max<int64_t>(0, pairs - matrices);
        worst = std::max(worst, Items(ones, tile));
        const int64_t most = GroupedItemsMax(pairs, matrices, tile);
        EXPECT_EQ(most, worst) << matrices << " " << tile << " " << pairs;
      }
    }
  }
}

TEST(RoomFor, HoldsEveryPartOfACall) {
  for (const int64_t experts : {1, 4, 8, 128, 256, 2048}) {
    for (const int64_t k : {1, 2, 8, 22}) {
      if (k > experts) continue;
      for (const int64_t tokens_max : {1, 8, 9, 32, 33, 300, 4096, 65535}) {
        const StackSizes sizes = {.experts = experts, .pair_width = 7168, .activated_width = 2048, .f32 = true};
        const GroupedRoom room = RoomFor(sizes, tokens_max, k);
        ASSERT_GE(room.expert_tokens, 1);
        ASSERT_LE(room.expert_tokens, tokens_max);
        EXPECT_LE(room.pairs, kPairsMax);
        EXPECT_LE(room.pair_floats, kPairFloatsMax);
        EXPECT_EQ(room.activated_f32, room.pairs * 2048);
        EXPECT_EQ(room.head_elements, 0);
        for (int64_t tokens = 1; tokens <= room.expert_tokens; tokens += 1 + tokens / 7) {
          for (const int64_t matrices : {int64_t{1}, experts / 2, experts}) {
            if (matrices == 0) continue;
            const int64_t pairs = tokens * k;
            EXPECT_LE(GroupedItemsMax(pairs, matrices, GroupedTile(tokens, pairs, matrices)), room.items)
                << experts << " " << k << " " << tokens << " " << matrices;
          }
        }
      }
    }
  }
}

// A single token's results may be more than the bound: it is done on its own.
TEST(RoomFor, OneTokenAlwaysFits) {
  const GroupedRoom room = RoomFor({.experts = 8, .pair_width = kPairFloatsMax, .activated_width = 64}, 100, 4);
  EXPECT_EQ(room.expert_tokens, 1);
  EXPECT_EQ(room.pair_floats, 4 * kPairFloatsMax);
  EXPECT_EQ(room.activated_f32, 0);
}

TEST(RoomFor, DividesProductsOfHeads) {
  const int64_t width = 128 * 512;  // DeepSeek-V3
  EXPECT_EQ(RoomFor({.head_width = width}, 32, 0).head_tokens, 32);
  const GroupedRoom room = RoomFor({.head_width = width}, 65535, 0);
  EXPECT_EQ(room.head_tokens, kHeadElementsOfCallMax / width);
  EXPECT_EQ(room.head_elements, kHeadElementsOfCallMax);
  EXPECT_EQ(room.pairs, 0);
}

TEST(CanGate, WantsGateAndUpInTilesOfTheSamePlace) {
  EXPECT_TRUE(CanGate(2 * 768));
  EXPECT_FALSE(CanGate(2 * 24));
}

}  // namespace
}  // namespace conclave::engine::cuda
