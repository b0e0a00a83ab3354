// SPDX-License-Identifier: Apache-2.0
// A request's text depends on (model, prompt, sampling, seed, sample index) and on nothing else: not on who shares its
// batch, on arrival, threads, chunking, the prefix cache, preemption or where it was begun.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "engine/ops/ops.h"
#include "tests/testing/tiny_engine.h"

namespace conclave::engine {
namespace {

using testing::Generation;
using testing::TinyEngine;

constexpr int32_t kRequests = 16;

// Prompts of 1 to 91 tokens; the odd ones share a prefix, so that the cache has something to find.
GenerateRequest Numbered(int32_t number) {
  GenerateRequest request = TinyEngine::Request(number, 1 + 6 * number, 20);
  if (number % 2 == 1) {
    const std::vector<TokenId> prefix = TinyEngine::Request(1000, 70, 1).prompt;
    request.prompt.insert(request.prompt.begin(), prefix.begin(), prefix.end());
  }
  return request;
}

// One request at a time, each on an engine that has seen nothing before.
std::vector<std::vector<TokenId>> Expected(const std::string& kernel) {
  std::vector<std::vector<TokenId>> texts;
  for (int32_t number = 0; number < kRequests; ++number) {
    EngineOptions options = TinyEngine::Options();
    options.kernel = kernel;
    const TinyEngine engine(options);
    texts.push_back(engine.Alone(Numbered(number)));
    EXPECT_EQ(texts.back().size(), 20u);
  }
  return texts;
}

class Determinism : public ::testing::TestWithParam<std::string> {};

TEST_P(Determinism, OfBatchSizeThreadsArrivalAndChunks) {
  EngineOptions options = TinyEngine::Options();
  options.kernel = GetParam();
  if (MakeOps({.kernel = GetParam(), .threads = 1}).status().code() == absl::StatusCode::kFailedPrecondition) {
    GTEST_SKIP() << "this machine cannot run kernel " << GetParam();
  }
  const auto expected = Expected(GetParam());
  std::mt19937 random(5);
  std::vector<int32_t> order(kRequests);
  for (int32_t i = 0; i < kRequests; ++i) order[i] = i;
  for (const int32_t batch : {1, 2, 3, 5, 8, 16}) {
    for (const int32_t threads : {1, 2}) {
      for (const int32_t step_tokens : {17, 64, 512}) {
        options.threads = threads;
        options.sequences_max = batch;
        options.step_tokens_max = step_tokens;
        const TinyEngine engine(options);
        std::shuffle(order.begin(), order.end(), random);
        std::vector<std::shared_ptr<Generation>> generations(kRequests);
        for (const int32_t number : order) generations[number] = engine.Submit(Numbered(number));
        for (int32_t number = 0; number < kRequests; ++number) {
          ASSERT_EQ(generations[number]->Wait().sample(0).tokens, expected[number])
              << "request " << number << ", batch " << batch << ", threads " << threads << ", step " << step_tokens;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Determinism, ::testing::Values("scalar", "avx2", "avx512"),
                         [](const auto& kernel) { return kernel.param; });

TEST(Engine, SamplesComputeThePromptOnceAndEqualLoneRequests) {
  const TinyEngine engine;
  GenerateRequest request = TinyEngine::Request(4, 101, 12);
  request.samples = 8;
  const auto generation = engine.Submit(request);
  EXPECT_OK(generation->Wait().status());
  ASSERT_EQ(generation->num_samples(), 8u);
  const ModelInfo& info = engine->info();
  const Usage& usage = generation->usage();
  EXPECT_EQ(usage.prompt_tokens, 101);
  EXPECT_EQ(usage.cached_prompt_tokens, 0);
  EXPECT_EQ(usage.output_tokens, 8 * 12);
  // 101 prompt tokens once, 11 of each sample's 12 (the last is never fed), a logit row per token drawn but the first.
  const int64_t head = 2 * int64_t{info.vocab} * info.hidden;
  int64_t attended = 101 * 102 / 2;
  for (int64_t position = 101; position < 112; ++position) attended += 8 * (position + 1);
  EXPECT_EQ(usage.flops, (101 + 8 * 11) * (info.flops_per_token - head) + (1 + 8 * 11) * head +
                             attended * info.attention_flops_per_token_and_position);
  // 1 step for the prompt, 11 for the samples together.
  EXPECT_EQ(usage.weight_bytes, 12 * info.weight_bytes_per_token);
  for (int32_t sample = 0; sample < 8; ++sample) {
    const TinyEngine other;
    GenerateRequest alone = TinyEngine::Request(4, 101, 12);
    alone.sample_index_first = sample;
    const auto lone = other.Submit(alone);
    EXPECT_EQ(lone->Wait().sample(sample).tokens, generation->sample(sample).tokens) << sample;
  }
}

TEST(Engine, MoreSamplesThanSlots) {
  EngineOptions options = TinyEngine::Options();
  options.sequences_max = 3;
  options.step_tokens_max = 40;
  const TinyEngine narrow(options), wide;
  GenerateRequest request = TinyEngine::Request(4, 50, 9);
  request.samples = 8;
  const auto a = narrow.Submit(request), b = wide.Submit(request);
  a->Wait();
  b->Wait();
  for (int32_t sample = 0; sample < 8; ++sample) EXPECT_EQ(a->sample(sample).tokens, b->sample(sample).tokens);
}

TEST(Engine, ThePrefixCacheChangesCostNotText) {
  const TinyEngine engine;
  const GenerateRequest request = TinyEngine::Request(7, 100, 10);
  const auto first = engine.Submit(request);
  EXPECT_OK(first->Wait().status());
  const auto second = engine.Submit(request);
  EXPECT_OK(second->Wait().status());
  EXPECT_EQ(first->usage().cached_prompt_tokens, 0);
  EXPECT_EQ(second->usage().cached_prompt_tokens, 99);  // the last one's logits are wanted
  EXPECT_LT(second->usage().flops, first->usage().flops / 3);
  EXPECT_EQ(second->sample(0).tokens, first->sample(0).tokens);
  GenerateRequest salted = request;
  salted.cache_salt = "another tenant";
  EXPECT_EQ(engine.Submit(salted)->Wait().usage().cached_prompt_tokens, 0);
  // What was generated can be found too: the next turn of a conversation.
  GenerateRequest next = request;
  next.prompt.insert(next.prompt.end(), first->sample(0).tokens.begin(), first->sample(0).tokens.end());
  next.prompt.resize(140, 5);
  EXPECT_EQ(engine.Submit(next)->Wait().usage().cached_prompt_tokens, 109) << "the last token drawn was never fed";
}

// Conversations that part anywhere, one after the other: each computes what none before it had, prompts and answers.
TEST(Engine, PromptsComputeWhatIsNotInTheTrieOfThoseBeforeThem) {
  EngineOptions options = TinyEngine::Options();
  options.prefix_reuse = false;
  const TinyEngine engine, without(options);
  std::mt19937 random(11);
  std::set<std::vector<TokenId>> computed;  // by every beginning
  std::vector<std::vector<TokenId>> sequences = {TinyEngine::Request(1, 90, 1).prompt};
  for (uint64_t number = 0; number < 40; ++number) {
    const std::vector<TokenId>& other = sequences[random() % sequences.size()];
    GenerateRequest request = TinyEngine::Request(number, 1 + static_cast<int32_t>(random() % 40), 12);
    request.prompt.insert(request.prompt.begin(), other.begin(), other.begin() + random() % (other.size() + 1));
    if (number % 8 == 7) request.prompt = other;
    const auto generation = engine.Submit(request);
    EXPECT_OK(generation->Wait().status());
    EXPECT_EQ(generation->sample(0).tokens, without.Alone(request)) << number;

    std::vector<TokenId> known;
    while (known.size() + 1 < request.prompt.size()) {
      known.push_back(request.prompt[known.size()]);
      if (computed.contains(known)) continue;
      known.pop_back();
      break;
    }
    EXPECT_EQ(generation->usage().cached_prompt_tokens, std::ssize(known)) << number;
    std::vector<TokenId> all = request.prompt;
    all.insert(all.end(), generation->sample(0).tokens.begin(), generation->sample(0).tokens.end() - 1);
    for (size_t n = 1; n <= all.size(); ++n) computed.emplace(all.begin(), all.begin() + static_cast<int64_t>(n));
    if (all.size() < 150) sequences.push_back(all);
  }
}

TEST(Engine, SimultaneousBranchesOverAColdTrunkPrefillItOnce) {
  const TinyEngine engine;
  std::vector<std::shared_ptr<Generation>> generations;
  for (TokenId branch = 0; branch < 6; ++branch) {
    GenerateRequest request = TinyEngine::Request(3, 320, 2);
    request.prompt.push_back(branch);
    generations.push_back(engine.Submit(request));
  }
  int64_t computed = 0;
  for (const auto& generation : generations) {
    const Usage& usage = generation->Wait().usage();
    computed += usage.prompt_tokens - usage.cached_prompt_tokens;
  }
  EXPECT_EQ(computed, 320 + 6);
}

TEST(Engine, PreemptionDoesNotChangeText) {
  EngineOptions options = TinyEngine::Options();
  options.context_tokens_max = 160;
  const TinyEngine roomy(options);
  const int64_t page_bytes = roomy->memory().kv_bytes / roomy->memory().kv_pages;
  options.kv_bytes = 9 * page_bytes;  // the longest sequence takes 5 and a copy
  const TinyEngine tight(options);
  ASSERT_EQ(tight->memory().kv_pages, 9);
  std::vector<std::shared_ptr<Generation>> expected, generations;
  for (uint64_t number = 0; number < 8; ++number) {
    expected.push_back(roomy.Submit(TinyEngine::Request(number, 30 + 3 * number, 80)));
    generations.push_back(tight.Submit(TinyEngine::Request(number, 30 + 3 * number, 80)));
  }
  for (size_t i = 0; i < generations.size(); ++i) {
    EXPECT_EQ(generations[i]->Wait().sample(0).tokens, expected[i]->Wait().sample(0).tokens) << i;
  }
  // Samples run together from the start, so these must run out of pages.
  GenerateRequest request = TinyEngine::Request(9, 30, 80);
  request.samples = 8;
  const auto forked = roomy.Submit(request), squeezed = tight.Submit(request);
  for (int32_t sample = 0; sample < 8; ++sample) {
    EXPECT_EQ(squeezed->Wait().sample(sample).tokens, forked->Wait().sample(sample).tokens) << sample;
  }
  EXPECT_GT(tight->load().preemptions, 0);
  EXPECT_EQ(roomy->load().preemptions, 0);
}

TEST(Engine, AContinuedSampleIsTheSameSample) {
  const TinyEngine engine;
  for (const uint64_t number : {1u, 2u, 3u}) {  // with and without penalties and randomness
    const GenerateRequest request = TinyEngine::Request(number, 40, 30);
    const auto whole = engine.Submit(request);
    whole->Wait();
    for (const size_t cut : {1u, 13u, 29u}) {
      GenerateRequest rest = request;
      rest.prompt.insert(rest.prompt.end(), whole->sample(0).tokens.begin(), whole->sample(0).tokens.begin() + cut);
      rest.continued_tokens = static_cast<int32_t>(cut);
      const std::vector<TokenId> expected(whole->sample(0).tokens.begin() + cut, whole->sample(0).tokens.end());
      EXPECT_EQ(engine.Alone(rest), expected) << number << " cut at " << cut;
    }
  }
}

TEST(Engine, NotANumberEndsOnlyItsOwnSequence) {
  const TinyEngine healthy(TinyEngine::Options(), {.tied_head = false});
  const TinyEngine engine(TinyEngine::Options(), {.tied_head = false, .nan_token = 7});
  GenerateRequest good = TinyEngine::Request(3, 40, 30), bad = TinyEngine::Request(3, 41, 30);
  std::replace(good.prompt.begin(), good.prompt.end(), 7, 8);
  bad.prompt[20] = 7;
  good.sampling.logit_bias = {{7, -100.0f}};
  const auto expected = healthy.Submit(good), generation = engine.Submit(good), failing = engine.Submit(bad);
  EXPECT_THAT(failing->Wait().status(),
              testing::StatusIs(absl::StatusCode::kInternal, ::testing::HasSubstr("NUMERIC_FAILURE")));
  EXPECT_EQ(failing->sample(0).finished, FinishReason::kFailed);
  EXPECT_OK(generation->Wait().status());
  EXPECT_EQ(generation->sample(0).tokens, expected->Wait().sample(0).tokens);
}

}  // namespace
}  // namespace conclave::engine
