// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/role/json_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orchestrator/role/role.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Nested(int depth) {
  std::string text;
  for (int i = 0; i < depth; ++i) text += "{\"a\":";
  return text + "1" + std::string(static_cast<size_t>(depth), '}');
}

TEST(JsonOutput, IsReadFromTheFirstBraceToTheLastBehindTheReasoning) {
  for (const char* text : {R"({"a": {"b": 4}})", "```json\n{\"a\": {\"b\": 4}}\n```", R"(Well: {"a": {"b": 4}} is it.)",
                           R"(<think>{"a": 0} or {"a": 1}?</think> {"a": {"b": 4}})"}) {
    const auto output = JsonOutput::Read(text);
    ASSERT_TRUE(output.has_value()) << text;
    EXPECT_EQ(output->TextAt("a.b"), "4") << text;
    EXPECT_EQ(output->NumberAt("a.b"), 4.0) << text;
  }
  for (const char* text : {"", "no braces", "}{", "{", R"({"a": 1} {"a": 2})", R"({"a": 1,})", "{'a': 1}",
                           R"({"a": NaN})", "<think>{\"a\": 1}</think>four"}) {
    EXPECT_FALSE(JsonOutput::Read(text).has_value()) << text;
  }
}

TEST(JsonOutput, WhatStandsAtAPath) {
  const auto output = JsonOutput::Read(
      R"({"t": "x = \"4\"", "n": -2.5, "i": 7, "y": true, "o": {"": 1, "p.q": 2}, "l": [1], "z": null})");
  ASSERT_TRUE(output.has_value());
  EXPECT_EQ(output->TextAt("t"), "x = \"4\"");
  EXPECT_EQ(output->TextAt("n"), "-2.5");
  EXPECT_EQ(output->TextAt("i"), "7");
  EXPECT_EQ(output->TextAt("y"), "true");
  for (const char* path : {"o", "l", "z", "absent", "t.x", "l.0", "o.p.q", "", "."}) {
    EXPECT_FALSE(output->TextAt(path).has_value()) << path;
  }
  EXPECT_EQ(output->NumberAt("n"), -2.5);
  EXPECT_FALSE(output->NumberAt("t").has_value());
  EXPECT_FALSE(output->NumberAt("y").has_value());
}

TEST(JsonOutput, NestingIsBounded) {
  EXPECT_TRUE(JsonOutput::Read(Nested(kJsonOutputDepthMax)).has_value());
  EXPECT_FALSE(JsonOutput::Read(Nested(kJsonOutputDepthMax + 1)).has_value());
  EXPECT_FALSE(JsonOutput::Read(Nested(100'000)).has_value());
  EXPECT_FALSE(JsonOutput::Read("{\"a\": 18446744073709551615}").has_value())
      << "templates have signed integers of 64 bits";
}

deliberation::v1::Role VerdictRole(bool score) {
  deliberation::v1::Role role;
  role.mutable_verdict()->add_accept("accept");
  role.mutable_verdict()->add_reject("reject");
  role.mutable_verdict()->set_score_max(10);
  role.mutable_json()->set_verdict("verdict");
  if (score) role.mutable_json()->set_score("score");
  return role;
}

TEST(JsonOutput, VerdictsAndScores) {
  const auto read = [](bool score, const char* text) {
    const deliberation::v1::Role role = VerdictRole(score);
    return ReadJsonVerdict(role, VerdictReader(role.verdict()), *JsonOutput::Read(text));
  };
  Reading reading = read(false, R"({"verdict": "ACCEPT"})");
  EXPECT_EQ(reading.accept, true);
  EXPECT_EQ(reading.score, 1.0);
  reading = read(false, R"({"verdict": false})");
  EXPECT_EQ(reading.accept, false);
  EXPECT_EQ(reading.score, 0.0);
  reading = read(true, R"({"verdict": "reject", "score": 3})");
  EXPECT_EQ(reading.accept, false);
  EXPECT_EQ(reading.score, 0.3);
  EXPECT_EQ(read(true, R"({"verdict": "accept", "score": 10})").score, 1.0);
  // A role whose field says that something is wrong: its phrases go before what truth values mean otherwise.
  deliberation::v1::Role reversed = VerdictRole(false);
  reversed.mutable_verdict()->set_accept(0, "false");
  reversed.mutable_verdict()->set_reject(0, "true");
  const VerdictReader has_error(reversed.verdict());
  EXPECT_EQ(ReadJsonVerdict(reversed, has_error, *JsonOutput::Read(R"({"verdict": false})")).accept, true);
  EXPECT_EQ(ReadJsonVerdict(reversed, has_error, *JsonOutput::Read(R"({"verdict": true})")).accept, false);
  // Nothing that can be read is no verdict at all.
  for (const char* text : {R"({"verdict": "accept"})", R"({"verdict": "accept", "score": 10.5})",
                           R"({"verdict": "accept", "score": -1})", R"({"verdict": "accept", "score": "3"})",
                           R"({"verdict": "perhaps", "score": 3})", R"({"score": 3})", R"({"verdict": ["accept"]})"}) {
    EXPECT_FALSE(read(true, text).accept.has_value()) << text;
    EXPECT_FALSE(read(true, text).score.has_value()) << text;
  }
}

TEST(JsonOutput, RolesSayWhereTheContractReads) {
  const auto errors = [](const std::string& text) {
    return RoleLibrary().AddText("name: \"r\" task: \"{{ question }}\"\n" + text, "r.textproto");
  };
  EXPECT_THAT(errors("answer { confidence_max: 10 } json { answer: \"result.value\" confidence: \"sure\" }"),
              IsEmpty());
  EXPECT_THAT(errors("verdict { accept: \"a\" reject: \"b\" } json { verdict: \"v\" score: \"s\" }"), IsEmpty());
  EXPECT_THAT(errors("label { option: \"a\" option: \"b\" } json { label: \"kind\" }"), IsEmpty());
  EXPECT_THAT(errors("text {} json {} repair: \"JSON, please.\""), IsEmpty());
  EXPECT_THAT(errors("answer {}\njson { label: \"kind\" }"),
              ElementsAre(HasSubstr("json does not say where the answer is; add answer: \"answer\""),
                          "r.textproto:3: role \"r\": json names a label, and the contract reads none; remove label: "
                          "\"kind\""));
  EXPECT_THAT(errors("answer { confidence_after: \"SURE:\" } json { answer: \"a\" }"),
              ElementsAre(HasSubstr("json and confidence_after at once")));
  EXPECT_THAT(errors("ranking { after: \"BEST:\" } json {}"), ElementsAre(HasSubstr("json is for answers, verdicts")));
  EXPECT_THAT(errors("verdict { criterion { after: \"A:\" } } json { verdict: \"v\" }"),
              ElementsAre(HasSubstr("json and criteria at once")));
  for (const char* path : {".a", "a.", "a..b"}) {
    EXPECT_THAT(errors(std::string("answer {} json { answer: \"") + path + "\" }"),
                ElementsAre(HasSubstr("fields joined by dots")))
        << path;
  }
  const std::string longest(kJsonPathBytesMax, 'a');
  EXPECT_THAT(errors("answer {} json { answer: \"" + longest + "\" }"), IsEmpty());
  EXPECT_THAT(errors("answer {} json { answer: \"" + longest + "a\" }"), ElementsAre(HasSubstr("at most 256 bytes")));
}

}  // namespace
}  // namespace conclave::orchestrator
