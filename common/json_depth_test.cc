// SPDX-License-Identifier: Apache-2.0
#include "common/json_depth.h"

#include <gtest/gtest.h>

#include <string>

namespace conclave {
namespace {

TEST(JsonDepth, BracketsInStringsDoNotCount) {
  const std::string text = R"(["[[[", "\"[", {"a": []}])";  // three deep
  EXPECT_FALSE(PlaceBeyondDepth(text, 3).has_value());
  EXPECT_EQ(PlaceBeyondDepth(text, 2), text.find("[]"));
}

TEST(JsonDepth, AtTheLimitAndBeyond) {
  EXPECT_FALSE(PlaceBeyondDepth(std::string(kJsonDepthMax, '[')).has_value());
  EXPECT_EQ(PlaceBeyondDepth(std::string(kJsonDepthMax + 1, '{')), kJsonDepthMax);
}

// What closes nothing does not make room for more.
TEST(JsonDepth, StrayClosingBracketsGiveNoCredit) {
  EXPECT_EQ(PlaceBeyondDepth("]]]]" + std::string(kJsonDepthMax + 1, '[')), kJsonDepthMax + 4);
}

}  // namespace
}  // namespace conclave
