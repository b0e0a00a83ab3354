// SPDX-License-Identifier: Apache-2.0
#include "engine/output_stream.h"

#include <limits>

#include "engine/tokenizer/byte_level.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using conclave::testing::StatusIs;
using ::testing::StartsWith;

constexpr TokenId kEnd = 256;

// A token per byte, and an end.
std::unique_ptr<Tokenizer> MakeTokenizer() {
  VocabularyData v;
  v.source = "test";
  v.pre = "gpt-2";
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    v.tokens.push_back(EncodeByteLevel(std::string_view(&byte, 1)));
  }
  v.tokens.emplace_back("<|im_end|>");
  v.types.assign(256, TokenType::kNormal);
  v.types.push_back(TokenType::kControl);
  v.eos = kEnd;
  auto tokenizer = Tokenizer::Create(std::move(v));
  EXPECT_OK(tokenizer);
  return *std::move(tokenizer);
}

class OutputStreamTest : public ::testing::Test {
 protected:
  OutputStreamTest() { sampling_.temperature = 0; }

  std::unique_ptr<OutputStream> Make(int32_t top_logprobs = -1) {
    auto stops = StopStrings::Create(stopping_.stop_strings);
    EXPECT_OK(stops);
    auto rules = std::make_shared<const OutputRules>(
        OutputRules{7, ToSamplerParams(sampling_), stopping_, *std::move(stops), top_logprobs});
    return OutputStream::Create(std::move(rules), 0, *tokenizer_);
  }
  // Logits whose largest is `token`.
  static std::vector<float> Wanting(TokenId token) {
    std::vector<float> logits(257, 0.0f);
    logits[static_cast<size_t>(token)] = 10.0f;
    return logits;
  }
  SampleDelta Next(OutputStream* stream, const std::vector<float>& logits, bool last = false) {
    SampleDelta delta = {};
    const auto token = stream->Next(logits, last, &workspace_, &delta);
    EXPECT_OK(token);
    EXPECT_EQ(delta.tokens, std::vector<TokenId>{token.value_or(-1)});
    return delta;
  }
  // What a stream makes of these bytes, one token each, until it ends.
  SampleDelta Type(OutputStream* stream, std::string_view bytes, bool last = false) {
    SampleDelta all = {};
    for (size_t i = 0; i < bytes.size() && !all.finished.has_value(); ++i) {
      SampleDelta delta = Next(stream, Wanting(static_cast<uint8_t>(bytes[i])), last && i + 1 == bytes.size());
      all.text += delta.text;
      all.finished = delta.finished;
      all.stop_match = delta.stop_match;
    }
    return all;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = MakeTokenizer();
  Sampling sampling_;
  Stopping stopping_;
  SamplerWorkspace workspace_;
};

TEST_F(OutputStreamTest, StopStringAcrossTokens) {
  stopping_.stop_strings = {"\n\n", "END"};
  const auto stream = Make();
  const SampleDelta all = Type(stream.get(), "an EN\nENDless");
  EXPECT_EQ(all.text, "an EN\n");
  EXPECT_EQ(all.finished, FinishReason::kStop);
  EXPECT_EQ(all.stop_match, "END");
}

TEST_F(OutputStreamTest, WhatWasHeldBackComesWithTheEnd) {
  stopping_.stop_strings = {"STOP"};
  EXPECT_EQ(Type(Make().get(), "a STO", true).text, "a STO");
  const auto stream = Make();
  EXPECT_EQ(Type(stream.get(), "a STO\xf0\x9f").text, "a ");  // so does an unfinished character
  const SampleDelta end = Next(stream.get(), Wanting(kEnd));
  EXPECT_EQ(end.text, "STO\xef\xbf\xbd");
  EXPECT_EQ(end.finished, FinishReason::kStop);
  EXPECT_EQ(end.stop_match, "");
}

TEST_F(OutputStreamTest, EndTokensAndStopTokens) {
  EXPECT_EQ(Next(Make().get(), Wanting(kEnd)).finished, FinishReason::kStop);
  EXPECT_EQ(Next(Make().get(), Wanting(kEnd), true).finished, FinishReason::kStop);
  EXPECT_EQ(Next(Make().get(), Wanting('x'), true).finished, FinishReason::kLength);
  stopping_.ignore_end_of_sequence = true;
  const SampleDelta ignored = Next(Make().get(), Wanting(kEnd));
  EXPECT_EQ(ignored.finished, std::nullopt);
  EXPECT_EQ(ignored.text, "");
  stopping_.stop_tokens = {'x'};
  const SampleDelta stopped = Next(Make().get(), Wanting('x'));
  EXPECT_EQ(stopped.finished, FinishReason::kStop);
  EXPECT_EQ(stopped.text, "");
}

TEST_F(OutputStreamTest, LogprobsWhenAskedFor) {
  SampleDelta delta = Next(Make(2).get(), Wanting('a'));
  ASSERT_EQ(delta.logprobs.size(), 1u);
  EXPECT_EQ(delta.logprobs[0].token, 'a');
  ASSERT_EQ(delta.top_logprobs.size(), 1u);
  ASSERT_EQ(delta.top_logprobs[0].size(), 2u);
  EXPECT_EQ(delta.top_logprobs[0][1].token, 0);
  delta = Next(Make(0).get(), Wanting('a'));
  EXPECT_EQ(delta.logprobs.size(), 1u);
  EXPECT_TRUE(delta.top_logprobs.empty());
  EXPECT_TRUE(Next(Make().get(), Wanting('a')).logprobs.empty());
}

TEST_F(OutputStreamTest, PenaltiesCountPromptAndOutput) {
  sampling_.repetition_penalty = 1.5f;
  const auto stream = Make();
  EXPECT_OK(stream->Begin(std::vector<TokenId>{'a'}, {}));
  std::vector<float> logits(257, 0.0f);
  logits['a'] = 10;  // 6.67 with its penalty
  logits['b'] = 9;   // 6 once it was drawn
  EXPECT_EQ(Next(stream.get(), logits).tokens[0], 'b');
  EXPECT_EQ(Next(stream.get(), logits).tokens[0], 'a');
}

// A sample that goes on elsewhere is the sample it was: same draws, same penalties, same text held back.
TEST_F(OutputStreamTest, ContinuedSampleGoesOnAsIfNothingHadHappened) {
  sampling_.temperature = 1.0f;
  sampling_.frequency_penalty = 0.5f;
  stopping_.stop_strings = {"ab", "bca"};
  std::vector<float> logits(257, -20.0f);
  logits['a'] = logits['b'] = logits['c'] = logits['d'] = 2.0f;
  const std::vector<TokenId> prompt = {'c', 'd'};
  for (size_t cut = 0; cut < 12; ++cut) {
    const auto whole = Make(), begun = Make(), continued = Make();
    EXPECT_OK(whole->Begin(prompt, {}));
    EXPECT_OK(begun->Begin(prompt, {}));
    std::string text, parts;
    std::vector<TokenId> tokens, first;
    std::optional<FinishReason> end;
    for (size_t i = 0; i < 40 && !end.has_value(); ++i) {
      const SampleDelta delta = Next(whole.get(), logits);
      text += delta.text;
      tokens.push_back(delta.tokens[0]);
      end = delta.finished;
    }
    if (tokens.size() <= cut) continue;
    for (size_t i = 0; i < cut; ++i) {
      const SampleDelta delta = Next(begun.get(), logits);
      parts += delta.text;
      first.push_back(delta.tokens[0]);
    }
    EXPECT_OK(continued->Begin(prompt, first));
    for (size_t i = cut; i < tokens.size(); ++i) {
      const SampleDelta delta = Next(continued.get(), logits);
      parts += delta.text;
      first.push_back(delta.tokens[0]);
    }
    EXPECT_EQ(first, tokens) << "cut at " << cut;
    EXPECT_EQ(parts, text) << "cut at " << cut;
  }
}

// Whoever made the end died before saying so.
TEST_F(OutputStreamTest, WhatHadEndedHasNoNextToken) {
  SampleDelta delta = {};
  const auto ended = [&](const std::vector<TokenId>& continued) {
    delta = {};
    const auto stream = Make();
    EXPECT_OK(stream->Begin(std::vector<TokenId>{'c'}, continued));
    return stream->EndedBefore(&delta);
  };
  EXPECT_FALSE(ended({}));
  EXPECT_FALSE(ended({'a', 'b'}));
  EXPECT_TRUE(ended({'a', 'b', kEnd}));
  EXPECT_EQ(delta.finished, FinishReason::kStop);
  EXPECT_EQ(delta.text, "");
  EXPECT_TRUE(delta.tokens.empty());
  stopping_.stop_strings = {"ab"};
  EXPECT_FALSE(ended({'a'}));
  EXPECT_TRUE(ended({'a', 'b'}));
  EXPECT_EQ(delta.finished, FinishReason::kStop);
  EXPECT_EQ(delta.stop_match, "ab");
  stopping_.stop_strings.clear();
  stopping_.stop_tokens = {'x'};
  EXPECT_TRUE(ended({'a', 'x'}));
  stopping_.ignore_end_of_sequence = true;
  EXPECT_FALSE(ended({'a', kEnd}));
}

TEST_F(OutputStreamTest, NumericFailureIsReported) {
  std::vector<float> logits(257, 0.0f);
  logits[3] = std::numeric_limits<float>::quiet_NaN();
  SampleDelta delta = {};
  EXPECT_THAT(Make()->Next(logits, false, &workspace_, &delta),
              StatusIs(absl::StatusCode::kInternal, StartsWith("NUMERIC_FAILURE")));
}

}  // namespace
}  // namespace conclave::engine
