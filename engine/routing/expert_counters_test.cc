// SPDX-License-Identifier: Apache-2.0
#include "engine/routing/expert_counters.h"

#include <gtest/gtest.h>

namespace conclave::engine {
namespace {

TEST(ExpertCounters, CountsChoicesAndDistinctExperts) {
  ExpertCounters counters(2, 4);
  counters.CountStep(std::vector<int32_t>{0, 3, 3, -1, /*layer 1*/ 1, 1, 1, 1});
  EXPECT_EQ(counters.distinct(0), 2);
  EXPECT_EQ(counters.distinct(1), 1);
  counters.CountStep(std::vector<int32_t>{2, -1, -1, -1, /*layer 1*/ -1, -1, -1, -1});
  EXPECT_EQ(counters.distinct(0), 1);
  EXPECT_EQ(counters.distinct(1), 0);
  EXPECT_EQ(counters.Snapshot(), (std::vector<int64_t>{1, 0, 1, 2, 0, 4, 0, 0}));
}

TEST(ExpertCounters, ADenseModelHasNone) {
  ExpertCounters counters(0, 0);
  counters.CountStep({});
  EXPECT_TRUE(counters.Snapshot().empty());
}

}  // namespace
}  // namespace conclave::engine
