// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler/sampler.h"

#include <cmath>
#include <limits>
#include <random>

#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TokenId Sample(std::vector<float> logits, const SamplerParams& params, const TokenCounts* counts = nullptr,
               uint64_t position = 0) {
  SamplerWorkspace workspace;
  const auto output =
      SampleToken({.logits = logits, .params = &params, .counts = counts, .position = position}, &workspace);
  EXPECT_OK(output);
  return output.ok() ? output->token : -1;
}

SamplerParams Greedy() { return {.temperature = 0}; }

TEST(SamplerTest, GreedyTakesTheLargestAndTheLowestIdOfEqualOnes) {
  EXPECT_EQ(Sample({1, 3, 2}, Greedy()), 1);
  EXPECT_EQ(Sample({1, 3, 2, 3, 3}, Greedy()), 1);
  EXPECT_EQ(Sample({-kInfinity, -5}, Greedy()), 1);
  EXPECT_EQ(Sample({-7}, Greedy()), 0);
}

TEST(SamplerTest, TinyTemperatureIsGreedy) {
  SamplerParams p = {.temperature = 1e-30f};
  for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(Sample({1, 3, 2.9999f}, p, nullptr, i), 1);
}

TEST(SamplerTest, TopOneAndTinyTopPAreGreedyButForTheTie) {
  for (uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(Sample({1, 3, 3, 2}, {.top_k = 1}, nullptr, i), 1);
    EXPECT_EQ(Sample({1, 3, 3, 2}, {.top_p = 1e-6f}, nullptr, i), 1);
    EXPECT_EQ(Sample({1, 3, 2.99f, 2}, {.min_p = 1.0f}, nullptr, i), 1);
  }
}

TEST(SamplerTest, LogitBias) {
  SamplerParams p = Greedy();
  p.logit_bias = {{2, 1.5f}};
  EXPECT_EQ(Sample({1, 3, 2}, p), 2);
  p.logit_bias = {{2, 1.0f}, {2, 0.5f}};
  EXPECT_EQ(Sample({1, 3, 2}, p), 2);
  p.logit_bias = {{1, -100.0f}};
  EXPECT_EQ(Sample({1, 300, 2}, p), 2);  // banned, whatever its logit
}

TEST(SamplerTest, Penalties) {
  TokenCounts counts;
  counts.AddPrompt(std::vector<TokenId>{1});
  counts.AddOutput(2);
  counts.AddOutput(2);
  SamplerParams p = Greedy();
  p.repetition_penalty = 2.0f;  // 3/2, 2.8/2, and -1 * 2 for a negative one
  EXPECT_EQ(Sample({1.6f, 3, 2.8f}, p, &counts), 0);
  EXPECT_EQ(Sample({-1.5f, -1, -0.9f}, p, &counts), 0);
  p = Greedy();
  p.frequency_penalty = 0.5f;  // 2.8 - 2 * 0.5; the prompt does not count
  EXPECT_EQ(Sample({1.7f, 1, 2.8f}, p, &counts), 2);
  EXPECT_EQ(Sample({1.9f, 1, 2.8f}, p, &counts), 0);
  EXPECT_EQ(Sample({1.9f, 2.0f, 2.8f}, p, &counts), 1);
  p = Greedy();
  p.presence_penalty = 0.5f;  // 2.8 - 0.5
  EXPECT_EQ(Sample({2.2f, 1, 2.8f}, p, &counts), 2);
  EXPECT_EQ(Sample({2.4f, 1, 2.8f}, p, &counts), 0);
}

TEST(SamplerTest, MaskOfAllowedTokens) {
  std::vector<float> logits(130);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i);
  std::vector<uint64_t> allowed(3, 0);
  allowed[1] = 1;  // token 64
  const SamplerParams greedy = Greedy(), random;
  SamplerWorkspace w;
  EXPECT_EQ(SampleToken({.logits = logits, .params = &greedy, .allowed = allowed}, &w)->token, 64);
  EXPECT_EQ(SampleToken({.logits = logits, .params = &random, .allowed = allowed}, &w)->token, 64);
  allowed[1] = 0;
  EXPECT_THAT(SampleToken({.logits = logits, .params = &greedy, .allowed = allowed}, &w),
              StatusIs(absl::StatusCode::kFailedPrecondition, StartsWith("NO_TOKEN_ALLOWED")));
}

// Whatever share of tokens a mask leaves: the token that comes of logits which say themselves that the others cannot
// be.
TEST(Sampler, AMaskIsAsGoodAsImpossibleLogits) {
  constexpr size_t kVocab = 1000;
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  SamplerWorkspace w;
  TokenCounts counts;
  counts.AddOutput(3);
  for (const SamplerParams& params :
       {SamplerParams{.temperature = 0}, SamplerParams{.temperature = 1},
        SamplerParams{.temperature = 0.8f, .top_k = 20},
        SamplerParams{.temperature = 1.5f, .top_p = 0.9f, .min_p = 0.01f},
        SamplerParams{.temperature = 1, .presence_penalty = 1, .logit_bias = {{5, 2.0f}, {6, -100.0f}}}}) {
    for (const uint64_t share : {1, 20, 124, 126, 500, 990}) {  // of a thousand; from an eighth on it is another way
      for (uint64_t position = 0; position < 50; ++position) {
        std::vector<float> logits(kVocab), impossible(kVocab, -std::numeric_limits<float>::infinity());
        std::vector<uint64_t> allowed((kVocab + 63) / 64);
        for (size_t i = 0; i < kVocab; ++i) {
          logits[i] = normal(random);
          if (random() % 1000 >= share && i != 7) continue;
          allowed[i / 64] |= uint64_t{1} << (i % 64);
          impossible[i] = logits[i];
        }
        const auto masked = SampleToken({.logits = logits,
                                         .params = &params,
                                         .counts = &counts,
                                         .allowed = allowed,
                                         .seed = 4,
                                         .position = position},
                                        &w);
        const auto plain = SampleToken(
            {.logits = impossible, .params = &params, .counts = &counts, .seed = 4, .position = position}, &w);
        ASSERT_OK(masked);
        ASSERT_OK(plain);
        ASSERT_EQ(masked->token, plain->token) << share << " at " << position;
      }
    }
  }
}

TEST(SamplerTest, NumericFailureNamesTheToken) {
  const SamplerParams params;
  SamplerWorkspace w;
  std::vector<float> logits = {0, 1, std::numeric_limits<float>::quiet_NaN(), 2};
  EXPECT_THAT(SampleToken({.logits = logits, .params = &params}, &w),
              StatusIs(absl::StatusCode::kInternal, AllOf(StartsWith("NUMERIC_FAILURE"), HasSubstr("token 2 is nan"))));
  logits[2] = kInfinity;
  EXPECT_THAT(SampleToken({.logits = logits, .params = &params}, &w),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("token 2 is inf")));
  logits.assign(4, -kInfinity);
  EXPECT_THAT(SampleToken({.logits = logits, .params = &params}, &w),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("all 4 logits are -infinity")));
  EXPECT_THAT(LogprobOf(logits, 0), StatusIs(absl::StatusCode::kInternal));
}

TEST(SamplerTest, LogprobsAreOfTheUnmodifiedDistribution) {
  SamplerParams p = {.temperature = 0.3f, .top_k = 1};
  p.logit_bias = {{3, 50.0f}};
  const std::vector<float> logits = {1, 2, 2, 0, -kInfinity};
  SamplerWorkspace w;
  const auto output = SampleToken({.logits = logits, .params = &p, .top_logprobs = 4}, &w);
  ASSERT_OK(output);
  EXPECT_EQ(output->token, 3);
  const double log_sum = std::log(std::exp(1) + 2 * std::exp(2) + std::exp(0));
  EXPECT_NEAR(output->logprob, 0 - log_sum, 1e-6);
  ASSERT_EQ(output->top.size(), 4u);
  const std::vector<TokenId> order = {1, 2, 0, 3};
  const std::vector<double> values = {2, 2, 1, 0};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(output->top[i].token, order[i]);
    EXPECT_NEAR(output->top[i].logprob, values[i] - log_sum, 1e-6);
  }
  EXPECT_NEAR(*LogprobOf(logits, 1), 2 - log_sum, 1e-6);
  EXPECT_TRUE(SampleToken({.logits = logits, .params = &p}, &w)->top.empty());
  EXPECT_TRUE(SampleToken({.logits = logits, .params = &p, .top_logprobs = 0}, &w)->top.empty());
}

TEST(SamplerTest, InputIsLeftAlone) {
  SamplerParams p;
  p.logit_bias = {{0, 1.0f}};
  const std::vector<float> logits = {1, 2, 3};
  std::vector<float> copy = logits;
  Sample(copy, p);
  SamplerWorkspace w;
  ASSERT_OK(SampleToken({.logits = copy, .params = &p}, &w));
  EXPECT_EQ(copy, logits);
}

TEST(SamplerTest, NothingIsAllocatedAfterTheFirstCall) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i)) * 5;
  for (SamplerParams p : {SamplerParams{}, SamplerParams{.top_k = 50, .top_p = 0.9f}, SamplerParams{.top_p = 0.9f}}) {
    p.logit_bias = {{0, 1.0f}};
    SamplerWorkspace w;
    ASSERT_OK(SampleToken({.logits = logits, .params = &p, .top_logprobs = 20}, &w));
    const auto capacities = [&] {
      return std::vector<size_t>{w.logits.capacity(), w.weights.capacity(), w.mass.capacity(), w.top.capacity()};
    };
    const std::vector<size_t> before = capacities();
    for (uint64_t i = 0; i < 50; ++i) {
      ASSERT_OK(SampleToken({.logits = logits, .params = &p, .position = i, .top_logprobs = 20}, &w));
    }
    EXPECT_EQ(capacities(), before);
  }
}

TEST(SamplerTest, ParametersAreChecked) {
  const auto check = [](auto change) {
    SamplerParams p;
    change(p);
    return CheckSamplerParams(p, 100);
  };
  const auto refused = [](const char* text) { return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)); };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_OK(check([](SamplerParams&) {}));
  EXPECT_THAT(check([](SamplerParams& p) { p.temperature = -0.1f; }), refused("temperature is -0.1"));
  EXPECT_THAT(check([](SamplerParams& p) { p.temperature = kNan; }), refused("temperature is nan"));
  EXPECT_THAT(check([](SamplerParams& p) { p.top_k = -1; }), refused("top_k is -1"));
  EXPECT_THAT(check([](SamplerParams& p) { p.top_p = 0; }), refused("top_p is 0"));
  EXPECT_THAT(check([](SamplerParams& p) { p.top_p = 1.01f; }), refused("top_p is 1.01"));
  EXPECT_THAT(check([](SamplerParams& p) { p.min_p = 1.5f; }), refused("min_p is 1.5"));
  EXPECT_THAT(check([](SamplerParams& p) { p.repetition_penalty = 0; }), refused("repetition_penalty is 0"));
  EXPECT_THAT(check([](SamplerParams& p) { p.presence_penalty = kInfinity; }), refused("presence_penalty inf"));
  EXPECT_THAT(check([](SamplerParams& p) { p.logit_bias = {{100, 1.0f}}; }), refused("names token 100"));
  EXPECT_THAT(check([](SamplerParams& p) { p.logit_bias = {{-1, 1.0f}}; }), refused("names token -1"));
  EXPECT_THAT(check([](SamplerParams& p) { p.logit_bias = {{1, kNan}}; }), refused("of token 1 is nan"));
  EXPECT_OK(check([](SamplerParams& p) { p.logit_bias.assign(kSamplerBiasMax, {1, 1.0f}); }));
  EXPECT_THAT(check([](SamplerParams& p) {
                p.logit_bias.assign(kSamplerBiasMax + 1, {1, 1.0f});
              }),
              refused("1025 entries"));
}

}  // namespace
}  // namespace conclave::engine
