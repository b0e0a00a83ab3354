// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace conclave::http {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

std::string Nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']');
}

TEST(Json, NestsAsDeepAsTheLimit) {
  EXPECT_OK(ParseJson(Nested(kJsonDepthMax)).status());
  EXPECT_THAT(ParseJson(Nested(kJsonDepthMax + 1)).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nests more than 64")));
  EXPECT_FALSE(ParseJson(Nested(1'000'000)).ok());
  EXPECT_FALSE(ParseJson(std::string(1'000'000, '[')).ok());
  EXPECT_FALSE(ParseJson(std::string(100'000, '{')).ok());
}

TEST(Json, BracketsInStringsDoNotCount) {
  const std::string text = "\"" + std::string(1000, '[') + "\\\"" + std::string(1000, '{') + "\"";
  ASSERT_OK(ParseJson(text).status());
  EXPECT_EQ(ParseJson(text)->get<std::string>().size(), 2001u);
}

TEST(Json, MistakesAreToldWithTheirPlace) {
  EXPECT_THAT(ParseJson("{\"a\": 1,}").status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at byte 9")));
  for (const char* text : {"", "{", "nul", "\"\xff\"", "[1e999999]", "\"\\ud800\"", "[1] 2", "\"\\"}) {
    EXPECT_THAT(ParseJson(text).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("JSON"))) << text;
  }
}

TEST(Json, WhatIsWrittenIsUtf8) {
  EXPECT_EQ(WriteJson({{"text",
                        "a\xff"
                        "b"}}),
            "{\"text\":\"a\xef\xbf\xbd"
            "b\"}");
  EXPECT_EQ(WriteJson({{"text", "</script>\n"}}), "{\"text\":\"</script>\\n\"}");
}

}  // namespace
}  // namespace conclave::http
