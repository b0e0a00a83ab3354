// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/shard.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace conclave::experiment {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

TEST(Shard, ReadsWhatItMeans) {
  EXPECT_EQ(ParseShard("3/8").value(), (Shard{3, 8}));
  EXPECT_EQ(ParseShard(fmt::format("{0}/{0}", kShardsMax)).value().count, kShardsMax);
  for (const std::string& bad : {std::string("0/8"), std::string("9/8"), std::string("3"), std::string("3/"),
                                 std::string("/8"), std::string("3/8x"), std::string("a/b"), std::string("1/0"),
                                 std::string("1/-1"), std::string(), fmt::format("1/{}", kShardsMax + 1)}) {
    EXPECT_THAT(ParseShard(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("i/n is needed"))) << bad;
  }
}

TEST(Shard, EveryItemIsInExactlyOne) {
  for (size_t item = 0; item < 20; ++item) {
    int found = 0;
    for (int32_t index = 1; index <= 7; ++index) found += Shard{index, 7}.Has(item) ? 1 : 0;
    EXPECT_EQ(found, 1) << item;
  }
  EXPECT_TRUE((Shard{2, 7}.Has(1)));
  EXPECT_TRUE((Shard{2, 7}.Has(8)));
}

TEST(Shard, GapsAndOverlapsAreNamed) {
  const std::vector<std::string> names = {"a", "b", "c"};
  EXPECT_OK(CheckComplete({{2, 3}, {1, 3}, {3, 3}}, names));
  EXPECT_OK(CheckComplete({{1, 1}}, {"a"}));
  const auto bad = [&](const std::vector<Shard>& shards, const char* what) {
    EXPECT_THAT(CheckComplete(shards, names), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  bad({{1, 3}, {3, 3}}, "shard 2/3 is missing");
  bad({{1, 3}, {2, 3}, {1, 3}}, "a and c overlap: both are shard 1/3");
  bad({{1, 2}, {2, 3}}, "a is shard 1/2, b is shard 2/3");
}

}  // namespace
}  // namespace conclave::experiment
