// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/pretokenizer.h"

#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Split(std::string_view name, std::string_view text) {
  const auto spec = FindPretokenizer(name);
  EXPECT_OK(spec);
  if (!spec.ok()) return {};
  const auto pretokenizer = Pretokenizer::Create((*spec)->patterns);
  EXPECT_OK(pretokenizer);
  if (!pretokenizer.ok()) return {};
  std::vector<uint32_t> ends;
  EXPECT_OK((*pretokenizer)->Split(text, &ends));
  std::vector<std::string> pieces;
  uint32_t begin = 0;
  for (const uint32_t end : ends) {
    pieces.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return pieces;
}

// Expected values: Hugging Face tokenizers' pre_tokenize_str with each model's tokenizer.json.
TEST(PretokenizerTest, Gpt2) {
  EXPECT_THAT(Split("gpt-2", "I'm here,  2024 times!\n\nYou'LL see"),
              ElementsAre("I", "'m", " here", ",", " ", " 2024", " times", "!", "\n", "\n", "You", "'", "LL", " see"));
}

TEST(PretokenizerTest, SmolLmSplitsDigits) {
  EXPECT_THAT(Split("smollm", "x 123 y"), ElementsAre("x", " ", "1", "2", "3", " y"));
}

TEST(PretokenizerTest, Llama3) {
  EXPECT_THAT(Split("llama-bpe", "You'LL pay $12345.\n\n  ok"),
              ElementsAre("You", "'LL", " pay", " $", "123", "45", ".\n\n", " ", " ok"));
  EXPECT_THAT(Split("llama3", "a\n \n b"), ElementsAre("a", "\n \n", " b"));
}

TEST(PretokenizerTest, Qwen2SplitsDigits) {
  EXPECT_THAT(Split("qwen2", "a 12\tb"), ElementsAre("a", " ", "1", "2", "\tb"));
}

TEST(PretokenizerTest, DeepSeekV3) {
  EXPECT_THAT(Split("deepseek-v3", "x=1234 \xe4\xbd\xa0\xe5\xa5\xbd.ok"),
              ElementsAre("x", "=", "123", "4", " ", "\xe4\xbd\xa0\xe5\xa5\xbd", ".ok"));
}

TEST(PretokenizerTest, TekkenSplitsWhereCaseTurns) {
  EXPECT_THAT(Split("tekken", "HelloWorld ABCdef"), ElementsAre("Hello", "World", " ABCdef"));
}

TEST(PretokenizerTest, EverySpecCompilesAndLosesNothing) {
  const std::string text =
      "It's 3.14, \xc3\xa9t\xc3\xa9!\r\n\t\xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80  end \xff\xfe bad \n\n";
  for (const PretokenizerSpec& spec : PretokenizerSpecs()) {
    const auto pretokenizer = Pretokenizer::Create(spec.patterns);
    ASSERT_OK(pretokenizer) << spec.names;
    std::vector<uint32_t> ends;
    ASSERT_OK((*pretokenizer)->Split(text, &ends));
    uint32_t last = 0;
    for (const uint32_t end : ends) {
      ASSERT_GT(end, last) << spec.names;
      last = end;
    }
    EXPECT_EQ(last, text.size()) << spec.names;
    ASSERT_OK((*pretokenizer)->Split("", &ends));
    EXPECT_TRUE(ends.empty());
  }
}

TEST(PretokenizerTest, NamesAreUnique) {
  std::map<std::string, int> seen;
  for (const PretokenizerSpec& spec : PretokenizerSpecs()) {
    std::string names(spec.names);
    for (size_t begin = 0; begin < names.size();) {
      const size_t end = std::min(names.find(' ', begin), names.size());
      EXPECT_EQ(++seen[names.substr(begin, end - begin)], 1);
      begin = end + 1;
    }
  }
}

// Pieces by tokenizers 0.23, pre_tokenizers.Split with these behaviours; the first alternative matches nothing.
TEST(PretokenizerTest, Behaviors) {
  const auto split = [](SplitBehavior behavior, bool invert) {
    const SplitRule rule = {.pattern = "(?=[A-Z])|[0-9]", .behavior = behavior, .invert = invert};
    const auto pretokenizer = Pretokenizer::Create(std::span(&rule, 1));
    EXPECT_OK(pretokenizer);
    const std::string text = "aBcD12x3E";
    std::vector<uint32_t> ends;
    EXPECT_OK((*pretokenizer)->Split(text, &ends));
    std::string pieces;
    for (uint32_t begin = 0; const uint32_t end : ends) {
      pieces += (begin == 0 ? "" : "|") + text.substr(begin, end - begin);
      begin = end;
    }
    return pieces;
  };
  EXPECT_EQ(split(SplitBehavior::kIsolated, false), "a|Bc|D|1|2|x|3|E");
  EXPECT_EQ(split(SplitBehavior::kIsolated, true), "a|Bc|D|1|2|x|3|E");
  EXPECT_EQ(split(SplitBehavior::kMergedWithPrevious, false), "a|Bc|D1|2|x3|E");
  EXPECT_EQ(split(SplitBehavior::kMergedWithPrevious, true), "a|Bc|D|1|2x|3E");
  EXPECT_EQ(split(SplitBehavior::kMergedWithNext, false), "a|Bc|D|1|2x|3E");
  EXPECT_EQ(split(SplitBehavior::kMergedWithNext, true), "a|Bc|D1|2|x3|E");
  EXPECT_EQ(split(SplitBehavior::kContiguous, false), "a|Bc|D|12|x|3|E");
  EXPECT_EQ(split(SplitBehavior::kContiguous, true), "a|Bc|D|12|x|3|E");
}

TEST(PretokenizerTest, UnknownNamesAndBadPatternsAreErrors) {
  EXPECT_THAT(FindPretokenizer("gpt-9"),
              StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("\"gpt-9\""), HasSubstr("llama-bpe"))));
  EXPECT_THAT(FindPretokenizer(""), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(FindPretokenizer("gpt-2 phi-2"), StatusIs(absl::StatusCode::kInvalidArgument));
  const std::string_view bad = "(a";
  EXPECT_THAT(Pretokenizer::Create(std::span(&bad, 1)), StatusIs(absl::StatusCode::kInvalidArgument));
}

// A pattern from elsewhere that backtracks exponentially ends with an error.
TEST(PretokenizerTest, BacktrackingIsBounded) {
  const std::string_view pattern = "(?:(?:a+)+)+[bc]";
  const auto pretokenizer = Pretokenizer::Create(std::span(&pattern, 1));
  ASSERT_OK(pretokenizer);
  std::vector<uint32_t> ends;
  EXPECT_THAT((*pretokenizer)->Split(std::string(60, 'a'), &ends), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace conclave::engine
