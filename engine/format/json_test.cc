// SPDX-License-Identifier: Apache-2.0
#include "engine/format/json.h"

#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

auto Invalid(const std::string& detail) {
  return StatusIs(absl::StatusCode::kFailedPrecondition,
                  AllOf(HasSubstr("MODEL_FILE_INVALID c.json"), HasSubstr(detail)));
}

TEST(Json, TypedAccessNamesThePlace) {
  const auto document = JsonDocument::Parse(
      "c.json", R"({"i":3,"u":18446744073709551615,"n":1.5,"s":"x","b":true,"z":null,"a":[1,{"k":"v"}]})");
  ASSERT_OK(document);
  const JsonObject root = *(*document)->root().Object();
  EXPECT_EQ(*root.Get("i")->Integer(3, 3), 3);
  EXPECT_THAT(root.Get("i")->Integer(4, 9).status(), Invalid("\"i\" is 3, 4 to 9 allowed"));
  EXPECT_THAT(root.Get("u")->Integer(0, INT64_MAX).status(), Invalid("18446744073709551615"));
  EXPECT_THAT(root.Get("n")->Integer(0, 9).status(), Invalid("integer expected"));
  EXPECT_EQ(*root.Get("n")->Number(), 1.5);
  EXPECT_EQ(*root.Get("i")->Number(), 3.0);
  EXPECT_THAT(root.Get("s")->Number().status(), Invalid("\"s\" is of type string, number expected"));
  EXPECT_EQ(*root.Get("s")->String(), "x");
  EXPECT_EQ(*root.BoolOr("b", false), true);
  EXPECT_THAT(root.BoolOr("s", false).status(), Invalid("boolean expected"));
  const auto array = *root.Get("a")->Array();
  ASSERT_EQ(array.size(), 2u);
  EXPECT_THAT(array[1].Object()->Get("k")->Bool().status(), Invalid("\"a[1].k\""));
  EXPECT_THAT(array[0].Object().status(), Invalid("\"a[0]\" is of type integer, object expected"));
}

TEST(Json, NullIsAbsent) {
  const auto document = JsonDocument::Parse("c.json", R"({"z":null})");
  const JsonObject root = *(*document)->root().Object();
  EXPECT_FALSE(root.Has("z"));
  EXPECT_THAT(root.Get("z").status(), Invalid("key \"z\" is missing"));
  EXPECT_EQ(*root.IntegerOr("z", 0, 9, 5), 5);
  EXPECT_EQ(*root.NumberOr("absent", 2.5), 2.5);
  EXPECT_EQ(*root.StringOr("z", "d"), "d");
}

TEST(Json, WhatIsRefused) {
  const auto parse = [](const std::string& text) { return JsonDocument::Parse("c.json", text).status(); };
  EXPECT_THAT(parse(""), Invalid("JSON"));
  EXPECT_THAT(parse("{"), Invalid("JSON"));
  EXPECT_THAT(parse("{} x"), Invalid("JSON"));
  EXPECT_THAT(parse("\"\xff\""), Invalid("JSON"));
  EXPECT_OK(parse(std::string(kJsonDepthMax, '[') + std::string(kJsonDepthMax, ']')));
  EXPECT_THAT(parse(std::string(kJsonDepthMax + 1, '[') + std::string(kJsonDepthMax + 1, ']')), Invalid("JSON"));
  EXPECT_OK(JsonDocument::Parse("c.json", "[1]", 3).status());
  EXPECT_THAT(JsonDocument::Parse("c.json", "[1] ", 3).status(), Invalid("4 bytes, at most 3"));
  const auto twice = JsonDocument::Parse("c.json", R"({"a":{"k":1,"k":2}})");
  EXPECT_THAT((*twice)->root().Object()->Get("a")->Object().status(), Invalid("\"a\" has the key \"k\" twice"));
}

}  // namespace
}  // namespace conclave::engine
