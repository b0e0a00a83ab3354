// SPDX-License-Identifier: Apache-2.0
#include "engine/costs.h"

#include <gtest/gtest.h>

namespace conclave::engine {
namespace {

// Three layers of which two have a window: every token and position counted one by one.
TEST(CostModel, WindowsAreCountedAsTheyAreSeen) {
  constexpr int64_t kWindow = 5, kPerLayer = 7;
  const CostModel costs = {.flops_per_token_and_position = 3 * kPerLayer,
                           .layers = 3,
                           .window_layers = 2,
                           .window = kWindow,
                           .kv_bytes_per_token = 30,
                           .expert_bytes = {}};
  for (int64_t end = 1; end < 20; ++end) {
    for (int64_t count = 1; count <= end; ++count) {
      int64_t flops = 0;
      for (int64_t position = end - count; position < end; ++position) {
        flops += kPerLayer * (position + 1 + 2 * std::min(position + 1, kWindow));
      }
      EXPECT_EQ(costs.Flops(count, end, 0), flops) << count << " tokens up to " << end;
      // Positions that the step's first token sees, and all after them.
      const int64_t read = end - std::max<int64_t>(0, end - count + 1 - kWindow);
      EXPECT_EQ(costs.KvBytes(count, end), 10 * (end + 2 * read) + 30 * count);
    }
  }
}

TEST(CostModel, WithoutWindowsEverythingIsSeen) {
  const CostModel costs = {
      .flops_per_token_and_position = 21, .layers = 3, .kv_bytes_per_token = 30, .expert_bytes = {}};
  EXPECT_EQ(costs.Flops(3, 10, 0), 21 * (8 + 9 + 10));
  EXPECT_EQ(costs.KvBytes(3, 10), 30 * 13);
}

}  // namespace
}  // namespace conclave::engine
