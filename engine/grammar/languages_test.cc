// SPDX-License-Identifier: Apache-2.0
// Which texts a constraint accepts, against Python's re and jsonschema (tests/golden/make_constraints.py) and tables
// made by hand from the specifications; what is refused and where; every limit at the limit and one beyond.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/file.h"
#include "engine/grammar/characters.h"
#include "engine/grammar/constraint_testing.h"
#include "engine/grammar/json_parts.h"
#include "engine/grammar/json_reader.h"
#include "engine/grammar/json_schema.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine::grammar {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

nlohmann::ordered_json Golden() {
  return nlohmann::ordered_json::parse(*ReadFile(CONCLAVE_SOURCE_DIR "/tests/golden/constraints.json"));
}

std::shared_ptr<const Automaton> Compile(Language language, std::string_view source) {
  const auto automaton = CompileAutomaton(language, source);
  EXPECT_OK(automaton) << source.substr(0, 200);
  return automaton.ok() ? *automaton : nullptr;
}

std::string Repeated(std::string_view text, size_t count) {
  std::string result;
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

TEST(Regex, AgreesWithPython) {
  int texts = 0, matching = 0;
  const nlohmann::ordered_json golden = Golden();
  for (const auto& entry : golden["regexes"]) {
    const std::string pattern = entry["pattern"];
    const auto automaton = Compile(Language::kRegex, pattern);
    ASSERT_NE(automaton, nullptr);
    for (const auto& text : entry["texts"]) {
      EXPECT_EQ(Accepts(automaton, text[0].get<std::string>()), text[1].get<bool>()) << pattern << " on " << text[0];
      ++texts;
      matching += text[1].get<bool>() ? 1 : 0;
    }
  }
  EXPECT_GT(texts, 700);
  EXPECT_GT(matching, 200);
}

TEST(JsonSchema, AgreesWithJsonschema) {
  int accepted = 0, refused = 0;
  const nlohmann::ordered_json golden = Golden();
  for (const auto& entry : golden["schemas"]) {
    const std::string schema = entry["schema"].dump();
    const auto automaton = Compile(Language::kJsonSchema, schema);
    ASSERT_NE(automaton, nullptr);
    for (const auto& judged : entry["texts"]) {
      const std::string text = judged[0];
      const bool valid = judged[1], canonical = judged[2], accepts = Accepts(automaton, text);
      if (accepts) {
        EXPECT_TRUE(valid) << schema << " on " << text;
      }
      if (valid && canonical) {
        EXPECT_TRUE(accepts) << schema << " on " << text;
      }
      (accepts ? accepted : refused) += 1;
    }
  }
  EXPECT_GT(accepted, 800);
  EXPECT_GT(refused, 500);
}

// In the manner of JSONTestSuite: what RFC 8259 says is JSON, and what it says is not.
TEST(JsonSchema, AnyValueIsJson) {
  const auto any = Compile(Language::kJsonSchema, "{}");
  for (const char* text :
       {R"([])", R"([ ])", R"({})", R"("")", R"(0)", R"(-0)", R"(1.5)", R"(1e5)", R"(1E-5)", R"(-1.25e+10)",
        R"("\u0041")", R"("\ud83d\ude00")", "\"\xf0\x9f\x98\x80\"", R"("\"\\\/\b\f\n\r\t")", R"([1, 2, [3, {}]])",
        R"({"": null, "a": {"b": [true, false]}})", "[\n  1,\n  2\n]", "\"\x7f\"", "\"\xc2\x80\""}) {
    EXPECT_TRUE(Accepts(any, text)) << text;
  }
  for (const char* text : {"",
                           " 1",
                           "1 ",
                           "01",
                           "+1",
                           "1.",
                           ".5",
                           "1e",
                           "1e+",
                           "-",
                           "0x1",
                           "NaN",
                           "Infinity",
                           "nul",
                           "True",
                           "'a'",
                           "\"",
                           "\"\n\"",
                           "\"\t\"",
                           R"("\x41")",
                           R"("\u12")",
                           R"("\ud800")",
                           R"("\udc00\ud800")",
                           R"("\ud83d\u0041")",
                           "\"\xff\"",
                           "\"\xc0\x80\"",
                           "\"\xed\xa0\x80\"",
                           "[1,]",
                           "[,1]",
                           "[1 2]",
                           "[1",
                           "1]",
                           "{1:2}",
                           R"({"a"})",
                           R"({"a":})",
                           R"({"a":1,})",
                           R"({,"a":1})",
                           R"({"a" 1})",
                           R"({"a":1 "b":2})",
                           "[] []",
                           "//",
                           "[\f]"}) {
    EXPECT_FALSE(Accepts(any, text)) << text;
  }
}

TEST(JsonSchema, MembersStandInTheSchemasOrder) {
  const auto schema = Compile(Language::kJsonSchema, R"({"type": "object", "properties": {"a": {"type": "integer"},
      "b": {"type": "integer"}, "c": {"type": "integer"}}, "required": ["b"]})");
  for (const char* text : {R"({"b":1})", R"({"a":1,"b":2})", R"({"b":1, "c":2})", R"({"a":1, "b":2, "c":3})"}) {
    EXPECT_TRUE(Accepts(schema, text)) << text;
  }
  for (const char* text : {"{}", R"({"a":1})", R"({"b":1,"a":2})", R"({"b":1,"b":2})", R"({,"b":1})",
                           R"({"b":1,"d":2})", R"({"b" :1})", R"({"b":1 ,"c":2})"}) {
    EXPECT_FALSE(Accepts(schema, text)) << text;
  }
}

// Other members may have any name but those that the schema knows, in whatever disguise.
TEST(JsonSchema, OtherMembersHaveOtherNames) {
  const auto schema = Compile(Language::kJsonSchema, R"({"type": "object", "properties": {"ab": {"type": "integer"},
      "é": {"type": "null"}}, "additionalProperties": {"type": "boolean"}})");
  for (const char* text : {R"({"a":true})", R"({"abc":true,"x":false})", R"({"ab":1,"b":true})", R"({"è":true})",
                           R"({"":true})", R"({"é":null,"éé":true})"}) {
    EXPECT_TRUE(Accepts(schema, text)) << text;
  }
  for (const char* text :
       {R"({"ab":true})", R"({"a":1})", R"({"é":true})", R"({"\u0061b":true})", R"({"a":true,"ab":1})"}) {
    EXPECT_FALSE(Accepts(schema, text)) << text;
  }
}

TEST(JsonSchema, IntegersWithinBounds) {
  for (const auto& [low, high] : {std::pair{0, 0}, {-7, 123}, {9, 10}, {95, 1203}, {-130, -99}, {1, 99999}}) {
    const auto schema =
        Compile(Language::kJsonSchema, fmt::format(R"({{"type":"integer","minimum":{},"maximum":{}}})", low, high));
    for (int value = -2000; value < 2000; ++value) {
      EXPECT_EQ(Accepts(schema, std::to_string(value)), low <= value && value <= high) << value;
    }
    EXPECT_FALSE(Accepts(schema, "00"));
    EXPECT_FALSE(Accepts(schema, "-0"));
  }
}

TEST(JsonSchema, RecursionThroughReferences) {
  const auto schema = Compile(Language::kJsonSchema, R"({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object",
      "properties": {"value": {"type": "integer"}, "left": {"$ref": "#/$defs/tree"}}, "required": ["value"]}}})");
  EXPECT_TRUE(Accepts(schema, R"({"value":1,"left":{"value":2,"left":{"value":3}}})"));
  EXPECT_FALSE(Accepts(schema, R"({"value":1,"left":{"left":{"value":3}}})"));
}

// A member that no value fits is never begun.
TEST(JsonSchema, NoDeadEnds) {
  const auto schema =
      Compile(Language::kJsonSchema, R"({"type":"object","properties":{"a":false,"b":{"type":"null"}}})");
  SlowReader reader(*schema);
  EXPECT_TRUE(reader.Append("{\""));
  EXPECT_FALSE(reader.Append("a"));
  EXPECT_TRUE(reader.Append("b\":null}"));
  EXPECT_TRUE(reader.complete());
}

TEST(JsonSchema, OneOfWantsAlternativesThatExcludeOneAnother) {
  const auto compile = [](std::string_view alternatives) {
    return CompileAutomaton(Language::kJsonSchema, fmt::format(R"({{"oneOf": [{}]}})", alternatives)).status();
  };
  EXPECT_OK(compile(R"({"type":"string"}, {"type":"integer"}, {"type":["null","array"]})"));
  EXPECT_OK(compile(R"({"enum":[1,2]}, {"const":3})"));
  EXPECT_OK(compile(R"({"type":"object","properties":{"k":{"const":"a"}},"required":["k"]},
                       {"type":"object","properties":{"k":{"const":"b"}},"required":["k"]})"));
  EXPECT_THAT(compile(R"({"enum":[1,2]}, {"const":2.0})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at oneOf[1]")));
  EXPECT_THAT(compile(R"({"type":"number"}, {"type":"integer"})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at oneOf[1]: a value may match entry 0 too")));
  EXPECT_THAT(compile(R"({"type":"object","properties":{"k":{"const":"a"}}},
                         {"type":"object","properties":{"k":{"const":"b"}},"required":["k"]})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at oneOf[1]")));
}

TEST(Ebnf, GrammarsAcceptTheirTexts) {
  const auto arithmetic = Compile(Language::kGrammar, R"grammar(
    # sums of products
    root    ::= term (("+" | "-") term)*
    term    ::= factor ("*" factor)*
    factor  ::= [0-9]{1,3} | "(" root ")")grammar");
  for (const char* text : {"1", "12+3*(4-56)", "((7))", "1*2*3"}) {
    EXPECT_TRUE(Accepts(arithmetic, text)) << text;
  }
  for (const char* text : {"", "1+", "1234", "(1", "1)", "()", "1**2"}) {
    EXPECT_FALSE(Accepts(arithmetic, text)) << text;
  }
  const auto verdict = Compile(Language::kGrammar,
                               "root ::= \"VERDICT: \" ( \"accept\" |\n \"reject\" ) reason ?\n"
                               "reason ::= \"\\n\" [^\\n\"]{2,4} # up to four\n");
  for (const char* text : {"VERDICT: accept", "VERDICT: reject\nabcd", "VERDICT: reject\né😀"}) {
    EXPECT_TRUE(Accepts(verdict, text)) << text;
  }
  for (const char* text : {"VERDICT: ", "VERDICT: accept\n", "VERDICT: accept\nabcde", "VERDICT: accept\na\"b"}) {
    EXPECT_FALSE(Accepts(verdict, text)) << text;
  }
  // Lists that nest at their end are loops: no depth limits them.
  const auto list = Compile(Language::kGrammar, "root ::= \"a\" root | \"b\"");
  EXPECT_TRUE(Accepts(list, std::string(10 * kCallDepthMax, 'a') + "b"));
}

TEST(Errors, NameThePlace) {
  struct Case {
    Language language;
    const char* source;
    const char* message;
  };
  constexpr Language kS = Language::kJsonSchema, kR = Language::kRegex, kG = Language::kGrammar;
  for (const Case& c : std::vector<Case>{
           {kR, "ab(c", "at byte 2: this \"(\" has no \")\""},
           {kR, "ab)c", "at byte 2: this \")\" has no \"(\""},
           {kR, "a|*", "at byte 2: nothing stands before this \"*\""},
           {kR, "é[z-a]", "at byte 3: this range ends"},
           {kR, "[abc", "at byte 0: this \"[\" has no \"]\""},
           {kR, "(?=a)", "at byte 0: groups with \"(?=\""},
           {kR, "a\\1", "at byte 1: \"\\1\" is not supported"},
           {kR, "a\\", "at byte 2: a character is expected"},
           {kR, "a\\bc", "at byte 1: \"\\b\" is not supported"},
           {kR, "a{3,2}", "at byte 1: this count ends"},
           {kR, "a{x}", "at byte 2: a count is expected"},
           {kR, "a**", "at byte 2: \"*\" behind another count"},
           {kR, "a^b", "at byte 1: \"^\" is supported at the beginning"},
           {kR, "a$b", "at byte 1: \"$\" is supported at the end"},
           {kR, "\\ud800", "at byte 2: U+D800 is no character"},
           {kR, "a\xff", "at byte 1: this is not UTF-8"},
           {kR, "[^\\s\\S]", "matches no text at all"},
           {kG, "", "at byte 0: there is no rule"},
           {kG, "foo ::= \"a\"", "at byte 0: there is no rule \"root\""},
           {kG, "root ::= \"a\" foo", "at byte 13: there is no rule \"foo\""},
           {kG, "root ::= \"a\"\nroot ::= \"b\"", "at byte 13: this rule has been defined before"},
           {kG, "root ::= \"a", "at byte 9: this literal has no closing quote"},
           {kG, "root ::= (\"a\"", "at byte 9: this \"(\" has no"},
           {kG, "root ::= \"a\" %", "at byte 13: \"%\" is unexpected"},
           {kG, "= \"a\"", "at byte 0: a rule is expected"},
           {kG, "root ::= root \"a\" | \"b\"", "the rule \"root\" begins with itself"},
           {kG, "root ::= x? y | x\nx ::= \"x\"\ny ::= x* root", "begins with itself"},
           {kG, "root ::= \"a\" root", "matches no text at all"},
           {kS, "{\"type\": \"object\",,}", "at byte 18: this is not JSON"},
           {kS, "{\"type\": \"object\", \"type\": \"array\"}", "the key \"type\" stands twice"},
           {kS, "7", "at the root: a schema is an object"},
           {kS, "false", "matches no text at all"},
           {kS, R"({"properties": {"a": {"type": "text"}}})", "at properties.a.type: \"text\" is no type"},
           {kS, R"({"type": "object", "propertys": {}})", "at propertys: this keyword is not known"},
           {kS, R"({"items": {"not": {}}})", "at items.not: this keyword is not supported"},
           {kS, R"({"anyOf": [{}, {"type": "integer", "multipleOf": 3}]})", "at anyOf[1].multipleOf: this keyword"},
           {kS, R"({"type": "integer", "minimum": 0.5})", "at minimum: a whole number"},
           {kS, R"({"type": "number", "exclusiveMinimum": 0})", "at exclusiveMinimum: is supported for integers only"},
           {kS, R"({"type": "string", "pattern": "a(b"})", "at pattern: at byte 1: this \"(\""},
           {kS, R"({"type": "string", "pattern": "a", "maxLength": 3})", "at pattern: is not supported beside"},
           {kS, R"({"type": "string", "format": "email"})", "at format: \"email\" is not known"},
           {kS, R"({"$ref": "#/$defs/x"})", "at $ref: \"#/$defs/x\" points at nothing"},
           {kS, R"({"$ref": "other.json"})", "at $ref: \"other.json\" is not supported"},
           {kS, R"({"$ref": "#"})", "matches no text at all"},
           {kS, R"({"anyOf": [{"$ref": "#"}, {"type": "null"}]})", "the schema at the root begins with itself"},
           {kS, R"({"anyOf": [{}], "minimum": 3})", "at minimum: is not supported beside \"anyOf\""},
           {kS, R"({"allOf": [{}, {}]})", "at allOf: more than one"},
           {kS, R"({"enum": []})", "at enum: a list of values"},
           {kS, R"({"type": "string", "enum": [1]})", "at enum: no value is of the type"},
           {kS, R"({"type": "array", "minItems": 3, "maxItems": 2})", "at maxItems: is below minItems"},
           {kS, R"({"required": "a"})", "at required: a list of names"}}) {
    EXPECT_THAT(CompileAutomaton(c.language, c.source),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)))
        << c.source;
  }
}

TEST(Limits, AtTheLimitAndOneBeyond) {
  const auto compiles = [](Language language, const std::string& source) {
    return CompileAutomaton(language, source).status();
  };
  const auto refused = [](const char* why) { return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)); };
  const std::string literal = "root ::= \"a\" #";
  EXPECT_OK(compiles(Language::kGrammar, literal + std::string(kSourceBytesMax - literal.size(), 'x')));
  EXPECT_THAT(compiles(Language::kGrammar, literal + std::string(kSourceBytesMax - literal.size() + 1, 'x')),
              refused("bytes, at most 131072"));
  for (const auto& [language, head] : {std::pair{Language::kRegex, ""}, {Language::kGrammar, "root ::= \"a\" "}}) {
    const auto nested = [&](size_t depth) {
      return head + Repeated("(", depth) + (language == Language::kRegex ? "a" : "\"a\"") + Repeated(")", depth);
    };
    EXPECT_OK(compiles(language, nested(kNestingMax)));
    EXPECT_THAT(compiles(language, nested(kNestingMax + 1)), refused("nest deeper than 128"));
  }
  EXPECT_OK(compiles(Language::kRegex, fmt::format("a{{{}}}", kRepeatMax)));
  EXPECT_THAT(compiles(Language::kRegex, fmt::format("a{{{}}}", kRepeatMax + 1)), refused("this count is over 10000"));
  const auto deep = [](size_t depth) { return Repeated(R"({"items":)", depth - 1) + "{}" + Repeated("}", depth - 1); };
  EXPECT_OK(compiles(Language::kJsonSchema, deep(kJsonNestingMax)));
  EXPECT_THAT(compiles(Language::kJsonSchema, deep(kJsonNestingMax + 1)), refused("nests deeper than 64"));
  const auto alternatives = [](size_t count) {
    std::string schema = "{\"oneOf\": [{\"const\": 0}";
    for (size_t i = 1; i < count; ++i) schema += fmt::format(", {{\"const\": {}}}", i);
    return schema + "]}";
  };
  EXPECT_OK(compiles(Language::kJsonSchema, alternatives(kOneOfMax)));
  EXPECT_THAT(compiles(Language::kJsonSchema, alternatives(kOneOfMax + 1)), refused("at oneOf: has 65 schemas"));
  const auto bound = [](int64_t b) { return fmt::format(R"({{"type":"integer","maximum":{}}})", b); };
  EXPECT_OK(compiles(Language::kJsonSchema, bound(kIntegerBoundMax)));
  EXPECT_THAT(compiles(Language::kJsonSchema, bound(kIntegerBoundMax + 1)), refused("at maximum: a whole number"));
  const auto rules = [](int32_t count) {
    std::string grammar = "root ::= \"a\"\n";
    for (int32_t i = 1; i < count; ++i) grammar += fmt::format("r{} ::= \"a\"\n", i);
    return grammar;
  };
  EXPECT_OK(compiles(Language::kGrammar, rules(kRulesMax)));
  EXPECT_THAT(compiles(Language::kGrammar, rules(kRulesMax + 1)), refused("is too large"));
}

// A counted character takes two states, the count two more, the text one for each literal.
TEST(Limits, States) {
  const int32_t copies = (kNodesMax - 4) / 16;
  EXPECT_OK(CompileAutomaton(Language::kRegex, fmt::format("(abcdefg|h){{{}}}", copies / 2)));
  for (const char* huge : {"((a{1000}){1000}){1000}", "(((a{100}){100}){100}){100}", "(abcdefghij){9999}"}) {
    EXPECT_THAT(CompileAutomaton(Language::kRegex, huge),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 65536 states")))
        << huge;
  }
  AutomatonBuilder builder;
  for (int32_t i = 0; i < kNodesMax; ++i) builder.AddNode();
  EXPECT_FALSE(builder.full());
  builder.AddNode();
  EXPECT_TRUE(builder.full());
  AutomatonBuilder edges;
  const int32_t node = edges.AddNode();
  for (int32_t i = 0; i < kEdgesMax; ++i) edges.AddStep(node, node);
  EXPECT_FALSE(edges.full());
  edges.AddStep(node, node);
  EXPECT_TRUE(edges.full());
}

TEST(Limits, NestingOfTexts) {
  const auto brackets = Compile(Language::kGrammar, "root ::= \"[\" root? \"]\"");
  const auto nested = [](int32_t depth) { return Repeated("[", depth) + Repeated("]", depth); };
  EXPECT_TRUE(Accepts(brackets, nested(kCallDepthMax + 1)));  // the first needs no call
  EXPECT_FALSE(Accepts(brackets, nested(kCallDepthMax + 2)));
  // At the limit the way down is closed before it is begun.
  StateTable table(brackets);
  StateId state = table.start();
  for (int32_t i = 0; i < kCallDepthMax + 1; ++i) state = table.Step(state, '[');
  EXPECT_EQ(table.Step(state, '['), kDead);
  EXPECT_GE(table.Step(state, ']'), 0);
  // Two brackets at a time: the first of a pair that would be too deep.
  const auto pairs = Compile(Language::kGrammar, "root ::= \"[[\" root? \"]\" \"]\"");
  EXPECT_TRUE(Accepts(pairs, nested(2 * kCallDepthMax + 2)));
  StateTable two(pairs);
  state = two.start();
  for (int32_t i = 0; i < 2 * kCallDepthMax + 2; ++i) state = two.Step(state, '[');
  EXPECT_EQ(two.Step(state, '['), kDead);
}

}  // namespace
}  // namespace conclave::engine::grammar
