// SPDX-License-Identifier: Apache-2.0
// Generation under constraints, on a model whose random weights want nothing of the sort.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_engine.h"

namespace conclave::engine {
namespace {

using conclave::testing::StatusIs;
using testing::Generation;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::TinyEngine;

constexpr const char* kVerdict = R"({"type":"object","properties":{"verdict":{"enum":["accept","reject"]},
    "score":{"type":"integer","minimum":0,"maximum":100},"é":{"type":"array","items":{"type":"boolean"},"maxItems":3}},
    "required":["verdict","score","é"]})";

GenerateRequest Constrained(Constraint::Language language, std::string source, int32_t output_tokens = 300) {
  GenerateRequest request = TinyEngine::Request(3, 40, output_tokens);
  request.stopping.ignore_end_of_sequence = false;
  request.constraint = {language, std::move(source)};
  request.seed = 9;
  return request;
}

TEST(Constrained, TextsAreWhatTheSchemaWants) {
  const TinyEngine engine;
  for (const float temperature : {0.0f, 1.0f, 3.0f}) {
    GenerateRequest request = Constrained(Constraint::Language::kJsonSchema, kVerdict);
    request.sampling.temperature = temperature;
    request.sampling.top_k = temperature > 2 ? 0 : 5;  // among what is allowed
    request.samples = 4;
    const auto generation = engine.Submit(request);
    ASSERT_OK(generation->Wait().status());
    for (int32_t sample = 0; sample < 4; ++sample) {
      const Generation::Sample& s = generation->sample(sample);
      EXPECT_EQ(s.finished, FinishReason::kStop) << s.text;
      const auto json = nlohmann::json::parse(s.text, nullptr, false);
      ASSERT_FALSE(json.is_discarded()) << s.text;
      EXPECT_TRUE(json["verdict"] == "accept" || json["verdict"] == "reject") << s.text;
      EXPECT_TRUE(json["score"].is_number_integer() && json["score"] >= 0 && json["score"] <= 100) << s.text;
      EXPECT_TRUE(json["é"].is_array() && json["é"].size() <= 3) << s.text;
      EXPECT_NE(s.tokens.back(), testing::kTinyEnd);  // nothing may follow: no step is spent on saying so
    }
  }
}

TEST(Constrained, SameSeedSameTextWhateverSharesTheBatch) {
  const GenerateRequest request = Constrained(Constraint::Language::kJsonSchema, kVerdict);
  const TinyEngine alone;
  const std::vector<TokenId> expected = alone.Alone(request);
  const TinyEngine engine;
  std::vector<std::shared_ptr<Generation>> others;
  for (int32_t i = 0; i < 6; ++i) {
    GenerateRequest other = Constrained(Constraint::Language::kRegex, i % 2 == 0 ? "[ab]{50}" : "(a|bc)+d");
    other.constraint.language = i == 5 ? Constraint::Language::kNone : other.constraint.language;
    other.seed = static_cast<uint64_t>(i);
    others.push_back(engine.Submit(other));
  }
  EXPECT_EQ(engine.Alone(request), expected);
  EXPECT_EQ(engine.Alone(request), expected);  // with what is known of the constraint by now
  for (const auto& other : others) EXPECT_OK(other->Wait().status());
}

// Begun elsewhere, at any token, inside of characters and of words too.
TEST(Constrained, AContinuedSampleGoesOn) {
  const TinyEngine engine;
  const GenerateRequest request = Constrained(Constraint::Language::kJsonSchema, kVerdict);
  const std::vector<TokenId> whole = engine.Alone(request);
  for (size_t cut = 1; cut < whole.size(); cut += 3) {
    GenerateRequest rest = request;
    rest.prompt.insert(rest.prompt.end(), whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut));
    rest.continued_tokens = static_cast<int32_t>(cut);
    EXPECT_EQ(engine.Alone(rest), std::vector<TokenId>(whole.begin() + static_cast<std::ptrdiff_t>(cut), whole.end()));
  }
  // Its last token left nothing to say; whoever drew it did not live to tell.
  GenerateRequest over = request;
  over.prompt.insert(over.prompt.end(), whole.begin(), whole.end());
  over.continued_tokens = static_cast<int32_t>(whole.size());
  const auto ended = engine.Submit(over);
  EXPECT_OK(ended->Wait().status());
  EXPECT_EQ(ended->sample().finished, FinishReason::kStop);
  EXPECT_TRUE(ended->sample().tokens.empty());
  EXPECT_EQ(ended->sample().text, "");
  GenerateRequest broken = request;
  broken.prompt.push_back('x');
  broken.continued_tokens = 1;
  EXPECT_THAT(engine->Submit(broken, std::make_shared<Generation>()),
              StatusIs(absl::StatusCode::kFailedPrecondition, StartsWith("CONSTRAINT_VIOLATED")));
}

TEST(Constrained, RegexAndGrammar) {
  const TinyEngine engine;
  const auto text = [&](Constraint::Language language, const char* source) {
    const auto generation = engine.Submit(Constrained(language, source));
    EXPECT_OK(generation->Wait().status());
    return generation->sample().text;
  };
  const std::string matched = text(Constraint::Language::kRegex, "[a-f]{3,9}: \\d{2}(th|x)");
  const size_t colon = matched.find_first_not_of("abcdef");
  EXPECT_TRUE(colon >= 3 && colon <= 9 && matched.substr(colon, 2) == ": ") << matched;
  EXPECT_EQ(matched.find_first_not_of("0123456789", colon + 2), colon + 4) << matched;
  EXPECT_TRUE(matched.substr(colon + 4) == "th" || matched.substr(colon + 4) == "x") << matched;
  const std::string nested = text(Constraint::Language::kGrammar, "root ::= \"(\" root \")\" | [0-9]{2}");
  const size_t depth = nested.find_first_of("0123456789");
  ASSERT_NE(depth, std::string::npos);
  EXPECT_EQ(nested.size(), 2 * depth + 2);
  EXPECT_EQ(nested.substr(depth + 2), std::string(depth, ')'));
}

// End tokens come where the text may end, and, when they are to be ignored, nowhere.
TEST(Constrained, Ends) {
  const TinyEngine engine;
  GenerateRequest request = Constrained(Constraint::Language::kRegex, "a{3}b*");
  request.sampling.temperature = 0;
  request.sampling.logit_bias = {{testing::kTinyEnd, 90.0f}};
  const auto first = engine.Submit(request);
  EXPECT_OK(first->Wait().status());
  EXPECT_EQ(first->sample().text, "aaa");
  EXPECT_EQ(first->sample().tokens.back(), testing::kTinyEnd);
  request.stopping.ignore_end_of_sequence = true;
  request.stopping.output_tokens_max = 7;
  const auto ignored = engine.Submit(request);
  EXPECT_OK(ignored->Wait().status());
  EXPECT_EQ(ignored->sample().text, "aaabbbb");
  EXPECT_EQ(ignored->sample().finished, FinishReason::kLength);
  request.stopping.stop_tokens = {'x'};  // not of the constraint: where the text may end
  request.sampling.logit_bias = {{'x', 90.0f}};
  const auto stopped = engine.Submit(request);
  EXPECT_OK(stopped->Wait().status());
  EXPECT_EQ(stopped->sample().text, "aaa");
  EXPECT_EQ(stopped->sample().finished, FinishReason::kStop);
}

TEST(Constrained, ErrorsNameThePlace) {
  const TinyEngine engine;
  const auto submit = [&](Constraint::Language language, std::string source) {
    return engine->Submit(Constrained(language, std::move(source)), std::make_shared<Generation>());
  };
  EXPECT_THAT(submit(Constraint::Language::kRegex, "ab("),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("CONSTRAINT_INVALID: at byte 2: this \"(\"")));
  EXPECT_THAT(submit(Constraint::Language::kJsonSchema, R"({"type":"text"})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("CONSTRAINT_INVALID: at type: \"text\"")));
  EXPECT_THAT(
      submit(Constraint::Language::kGrammar, "root ::= x"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("CONSTRAINT_INVALID: at byte 9: there is no rule")));
  // Bans that leave nothing of what is allowed end the sample with an error.
  GenerateRequest banned = Constrained(Constraint::Language::kRegex, "x");
  banned.sampling.logit_bias = {{'x', -100.0f}};
  const auto generation = engine.Submit(banned);
  EXPECT_THAT(generation->Wait().status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, StartsWith("NO_TOKEN_ALLOWED")));
}

}  // namespace
}  // namespace conclave::engine
