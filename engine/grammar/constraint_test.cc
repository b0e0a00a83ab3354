// SPDX-License-Identifier: Apache-2.0
// Masks against brute force: every token of a vocabulary, tried by a slow reader of the automaton with explicit stacks.
#include "engine/grammar/constraint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "common/status.h"
#include "engine/grammar/constraint_cache.h"
#include "engine/grammar/constraint_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine::grammar {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<TokenId> ends;
  std::shared_ptr<const VocabularyTrie> trie;

  void Build() {
    const std::vector<std::string_view> views(tokens.begin(), tokens.end());
    trie = std::make_shared<VocabularyTrie>(views, ends);
  }
};

// All bytes (parts of characters are tokens, as with byte fallback), words and punctuation that run together as in real
// vocabularies, a token twice, some without text, two that end.
Vocabulary Small() {
  Vocabulary v;
  for (int byte = 0; byte < 256; ++byte) v.tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* piece :
       {"",       "a",         "ab",       "abc",  "true",     "false",        "null", "\"",   "\":",   "\": ", "\",",
        "\", \"", "{\"",       "\"}",      "\"}}", "]}",       "}]",           "[[",   "]]",   "[]",    "{}",   "}}",
        " \"",    ", ",        ",\n",      "\n  ", "12",       "345",          "0.",   "-1",   "e+",    "é",    "\xc3",
        "\xa9\"", "\xf0\x9f",  "\x98\x80", "name", "\"name\"", "\"name\": \"", "\\n",  "\\\"", "\\u00", "41",   "[[[[",
        "]]]]",   "VERDICT: ", "accept",   "((",   "))",       "1)",           "(1"}) {
    v.tokens.emplace_back(piece);
  }
  v.ends = {static_cast<TokenId>(v.tokens.size()), static_cast<TokenId>(v.tokens.size() + 1)};
  v.tokens.insert(v.tokens.end(), {"", ""});
  v.Build();
  return v;
}

struct Source {
  Language language;
  const char* text;
};
constexpr Source kSources[] = {
    {Language::kJsonSchema, "{}"},
    {Language::kJsonSchema,
     R"({"type":"object","properties":{"name":{"type":"string","maxLength":4},"é":{"type":"array","items":
        {"$ref":"#"},"maxItems":2},"n":{"type":"number"}},"required":["name"],"additionalProperties":{"type":"null"}})"},
    {Language::kJsonSchema, R"({"type":"array","items":{"type":"array","items":{"type":["boolean","array"]}}})"},
    {Language::kRegex, R"((foo|true|ab[^"]*)+\d{2,3}é?)"},
    {Language::kRegex, R"(.{3,5}(\n|😀))"},
    {Language::kGrammar, "root ::= \"(\" root \")\" | [0-9]+ | root2 root2?\nroot2 ::= \"[\" root? \"]\""},
    {Language::kGrammar, "root ::= \"VERDICT: \" (\"accept\" | \"reject\")"},
};

bool Bit(const TokenMask& mask, TokenId token) {
  return ((*mask)[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0;
}

// A text that grows by random allowed tokens; at every step the whole mask is compared.
void ExpectMasksOfRandomTexts(const Source& source, const Vocabulary& vocabulary, uint64_t seed, int steps) {
  SCOPED_TRACE(source.text);
  const auto automaton = CompileAutomaton(source.language, source.text);
  ASSERT_OK(automaton);
  const auto constraint = Constraint::Create(source.language, source.text, vocabulary.trie);
  ASSERT_OK(constraint);
  std::mt19937_64 random(seed);
  ConstraintMatcher matcher(*constraint);
  SlowReader reader(**automaton);
  std::string text;
  for (int step = 0; step < steps; ++step) {
    const auto mask = matcher.Allowed();
    ASSERT_OK(mask);
    std::vector<TokenId> allowed;
    for (TokenId token = 0; token < vocabulary.trie->vocabulary(); ++token) {
      const std::string& bytes = vocabulary.tokens[static_cast<size_t>(token)];
      const bool end = std::find(vocabulary.ends.begin(), vocabulary.ends.end(), token) != vocabulary.ends.end();
      SlowReader tried = reader;
      const bool viable = end ? reader.complete() : !bytes.empty() && tried.Append(bytes);
      ASSERT_EQ(Bit(*mask, token), viable) << "token \"" << bytes << "\" after " << text;
      if (viable && !end) allowed.push_back(token);
    }
    ASSERT_EQ(matcher.complete(), reader.complete());
    ASSERT_EQ(matcher.exhausted(), reader.complete() && allowed.empty());
    ASSERT_TRUE(!allowed.empty() || reader.complete()) << "a dead end after " << text;
    if (allowed.empty()) return;
    const TokenId token = allowed[random() % allowed.size()];
    ASSERT_OK(matcher.Append(token));
    ASSERT_TRUE(reader.Append(vocabulary.tokens[static_cast<size_t>(token)]));
    text += vocabulary.tokens[static_cast<size_t>(token)];
  }
}

TEST(Masks, AgreeWithBruteForce) {
  const Vocabulary vocabulary = Small();
  for (const Source& source : kSources) {
    for (uint64_t seed = 0; seed < 12; ++seed) ExpectMasksOfRandomTexts(source, vocabulary, seed, 25);
  }
}

// Near the limit of nesting, where what a rule may do depends on how deep it stands.
TEST(Masks, AgreeWithBruteForceWhereItIsDeep) {
  const Vocabulary vocabulary = Small();
  const Source source = {Language::kGrammar, "root ::= \"[\" root? \"]\" | \"(\" [0-9] \")\""};
  const auto automaton = CompileAutomaton(source.language, source.text);
  const auto constraint = Constraint::Create(source.language, source.text, vocabulary.trie);
  ASSERT_OK(constraint);
  for (int depth = kCallDepthMax - 5; depth <= kCallDepthMax + 1; ++depth) {
    ConstraintMatcher matcher(*constraint);
    SlowReader reader(**automaton);
    const std::string text(static_cast<size_t>(depth), '[');
    ASSERT_OK(matcher.AppendBytes(text));
    ASSERT_TRUE(reader.Append(text));
    const auto mask = matcher.Allowed();
    ASSERT_OK(mask);
    for (TokenId token = 0; token < vocabulary.ends[0]; ++token) {
      const std::string& bytes = vocabulary.tokens[static_cast<size_t>(token)];
      SlowReader tried = reader;
      ASSERT_EQ(Bit(*mask, token), !bytes.empty() && tried.Append(bytes)) << bytes << " at depth " << depth;
    }
  }
}

TEST(Matcher, ErrorsLeaveTheTextAsItWas) {
  const Vocabulary vocabulary = Small();
  const auto constraint = Constraint::Create(Language::kRegex, "abc", vocabulary.trie);
  ASSERT_OK(constraint);
  ConstraintMatcher matcher(*constraint);
  EXPECT_THAT(matcher.Append('b'), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("CONSTRAINT_VIOLATED")));
  EXPECT_THAT(matcher.Append(-1), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("token -1")));
  EXPECT_THAT(matcher.Append(vocabulary.ends[0]),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no text")));
  EXPECT_THAT(matcher.Append(1 << 20), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no text")));
  EXPECT_OK(matcher.AppendBytes("ab"));
  EXPECT_FALSE(matcher.complete());
  EXPECT_OK(matcher.Append('c'));
  EXPECT_TRUE(matcher.exhausted());
}

// Texts under one constraint that need more states than are kept: each goes on as if it were alone.
TEST(Matcher, TextsOutliveTheTableTheyBeganIn) {
  const Vocabulary vocabulary = Small();
  const char* source = "([ab]*a[ab]{40}c)+";  // where a text stands depends on its last 41 characters
  const auto constraint = Constraint::Create(Language::kRegex, source, vocabulary.trie);
  const auto automaton = CompileAutomaton(Language::kRegex, source);
  ASSERT_OK(constraint);
  ASSERT_OK(automaton);
  std::mt19937_64 random(5);
  ConstraintMatcher second(*constraint);
  SlowReader reader(**automaton);
  const std::string begun = "abbababbabaababbbabababaabab";
  ASSERT_OK(second.AppendBytes(begun));
  ASSERT_TRUE(reader.Append(begun));
  {
    ConstraintMatcher first(*constraint);
    for (int i = 0; i < 60'000; ++i) ASSERT_OK(first.AppendBytes(random() % 2 == 0 ? "a" : "b"));
  }
  for (int i = 0; i < 80; ++i) {
    const char c = "abc"[i % 5 % 3];
    SlowReader tried = reader;
    const bool viable = tried.Append({&c, 1});
    ASSERT_EQ(second.AppendBytes({&c, 1}).ok(), viable) << i;
    if (viable) reader = tried;
    EXPECT_EQ(second.complete(), reader.complete());
  }
}

TEST(Matcher, TooManyPlacesAtOnceAreAnError) {
  const Vocabulary vocabulary = Small();
  // Each "a" may or may not want another "b" at the end: stacks of all kinds.
  const auto constraint = Constraint::Create(
      Language::kGrammar, "root ::= \"a\" (root \"b\" | root \"c\" | root \"d\")? \"e\"?", vocabulary.trie);
  ASSERT_OK(constraint);
  ConstraintMatcher matcher(*constraint);
  absl::Status status;
  for (int i = 0; i < 20 && status.ok(); ++i) status = matcher.AppendBytes("a");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("CONSTRAINT_TOO_AMBIGUOUS")));
}

TEST(Cache, KeepsTheLastUsed) {
  const Vocabulary vocabulary = Small();
  int tries = 0;
  ConstraintCache cache([&] {
    ++tries;
    return vocabulary.trie;
  });
  const auto get = [&](size_t i) { return *cache.Get(Language::kRegex, fmt::format("a{{{}}}", i + 1)); };
  const auto first = get(0);
  for (size_t i = 1; i < kConstraintsKeptMax; ++i) get(i);
  EXPECT_EQ(get(0), first);
  get(kConstraintsKeptMax);  // one more: the second goes
  EXPECT_EQ(get(0), first);
  for (size_t i = 1; i <= kConstraintsKeptMax; ++i) get(i);
  EXPECT_NE(get(0), first);
  EXPECT_NE(*cache.Get(Language::kGrammar, "root ::= \"a{1}\""), first);
  EXPECT_EQ(tries, 1);
  EXPECT_THAT(cache.Get(Language::kRegex, "("), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at byte 0")));
}

TEST(Cache, ThreadsShareConstraints) {
  const Vocabulary vocabulary = Small();
  ConstraintCache cache([&] { return vocabulary.trie; });
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      const auto constraint = cache.Get(Language::kJsonSchema, "{}");
      ASSERT_OK(constraint);
      for (int text = 0; text < 20; ++text) {
        ConstraintMatcher matcher(*constraint);
        std::mt19937_64 random(seed * 100 + static_cast<uint64_t>(text));
        for (int step = 0; step < 20; ++step) {
          const auto mask = matcher.Allowed();
          ASSERT_OK(mask);
          std::vector<TokenId> allowed;
          for (TokenId token = 0; token < vocabulary.ends[0]; ++token) {
            if (Bit(*mask, token)) allowed.push_back(token);
          }
          if (allowed.empty()) break;
          ASSERT_OK(matcher.Append(allowed[random() % allowed.size()]));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace conclave::engine::grammar
