// SPDX-License-Identifier: Apache-2.0
// SmolLM2-135M-Instruct Q4_1 against transformers on the same weights dequantised to f32 (make_smollm2_greedy.py):
// 20 prompts x 64 greedy tokens, and the log-probabilities of two passages.
//
// Kernels that keep activations in f32 must choose the same tokens, except where the reference's two best are less than
// kNearTie apart; kernels that round activations must give the reference's tokens nearly the same probability.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/status.h"
#include "engine/engine.h"
#include "tests/testing/divergence.h"
#include "tests/testing/generation.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

// Sanitised kernels are some fifty times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSlowBuild = true;
#else
constexpr bool kSlowBuild = false;
#endif

constexpr double kNearTie = 0.01;              // nat
constexpr double kRoundedLogprobMean = 0.05;   // nat, mean of the absolute differences
constexpr double kPerplexityRelative = 0.005;  // share

struct Prompt {
  std::string question, text;
  std::vector<TokenId> prompt, tokens;
  std::vector<double> logprobs, gaps;
};
struct Passage {
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<double> logprobs;  // of tokens[1..]
};

nlohmann::json Golden() {
  return nlohmann::json::parse(*ReadFile(std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/smollm2_greedy.json"));
}

std::vector<Prompt> Prompts() {
  std::vector<Prompt> prompts;
  const nlohmann::json golden = Golden();
  for (const auto& p : golden["prompts"]) {
    prompts.push_back({p["question"], p["text"], p["prompt_tokens"].get<std::vector<TokenId>>(),
                       p["tokens"].get<std::vector<TokenId>>(), p["logprobs"].get<std::vector<double>>(),
                       p["gaps"].get<std::vector<double>>()});
  }
  return prompts;
}

std::vector<Passage> Passages() {
  std::vector<Passage> passages;
  const nlohmann::json golden = Golden();
  for (const auto& p : golden["passages"]) {
    passages.push_back({p["text"], p["tokens"].get<std::vector<TokenId>>(), p["logprobs"].get<std::vector<double>>()});
  }
  return passages;
}

double Logprob(std::span<const float> logits, TokenId token) {
  const double best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - best);
  return logits[token] - best - std::log(sum);
}

class SmolLm2 : public ::testing::TestWithParam<std::string> {
 protected:
  static absl::StatusOr<std::unique_ptr<Engine>> Load(const std::string& kernel) {
    EngineOptions options;
    options.model_path = testing::CachedModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
    options.kernel = kernel;
    options.threads = 2;
    options.context_tokens_max = 512;
    return Engine::Create(options);
  }

  void SetUp() override {
    if (testing::CachedModelPath("SmolLM2-135M-Instruct.Q4_1.gguf").empty()) {
      GTEST_SKIP() << "needs ~/.cache/conclave/SmolLM2-135M-Instruct.Q4_1.gguf; deploy/demo fetches it";
    }
    absl::StatusOr<std::unique_ptr<Engine>> engine = Load(GetParam());
    if (absl::IsFailedPrecondition(engine.status())) GTEST_SKIP() << engine.status();
    ASSERT_OK(engine);
    engine_ = *std::move(engine);
  }

  bool exact() const { return GetParam() == "reference" || GetParam() == "scalar"; }

  std::vector<double> Logprobs(const std::vector<TokenId>& prompt, const std::vector<TokenId>& continuation) {
    Mutex mutex;
    CondVar ready;
    std::optional<absl::StatusOr<ScoreResult>> result;
    const absl::Status submitted =
        engine_->Score({.prompt = prompt, .continuations = {continuation}, .routing = {}, .cache_salt = {}},
                       [&](absl::StatusOr<ScoreResult> score) {
                         MutexLock lock(&mutex);
                         result = std::move(score);
                         ready.Signal();
                       });
    EXPECT_OK(submitted);
    if (!submitted.ok()) return {};
    MutexLock lock(&mutex);
    while (!result.has_value()) ready.Wait(&mutex);
    EXPECT_OK(*result);
    const auto& logprobs = (**result).continuations[0].token_logprobs;
    return std::vector<double>(logprobs.begin(), logprobs.end());
  }

  std::unique_ptr<Engine> engine_;
};

TEST_P(SmolLm2, TokenizesAsTheReferenceDoes) {
  for (const Prompt& p : Prompts()) {
    EXPECT_EQ(*engine_->Tokenize(p.text, Engine::SpecialTokens::kParse, false), p.prompt) << p.text;
  }
  for (const Passage& p : Passages()) {
    EXPECT_EQ(*engine_->Tokenize(p.text, Engine::SpecialTokens::kAsText, false), p.tokens);
  }
}

// At each step, given the reference's tokens so far: the same choice, and nearly the same probability.
void ExpectTheReferencesChoices(Engine* engine, const std::vector<Prompt>& prompts) {
  const size_t vocab = engine->info().vocab;
  int steps = 0, near_ties = 0;
  double worst = 0;
  for (const Prompt& p : prompts) {
    std::vector<TokenId> tokens = p.prompt;
    tokens.insert(tokens.end(), p.tokens.begin(), p.tokens.end() - 1);
    std::vector<float> logits;
    ASSERT_OK(engine->Logits(tokens, &logits));
    for (size_t step = 0; step < p.tokens.size(); ++step, ++steps) {
      const auto row = logits.begin() + (p.prompt.size() - 1 + step) * vocab;
      const auto chosen = static_cast<TokenId>(std::max_element(row, row + vocab) - row);
      worst = std::max(worst, std::abs(Logprob({row, row + vocab}, p.tokens[step]) - p.logprobs[step]));
      if (chosen == p.tokens[step]) continue;
      EXPECT_LT(p.gaps[step], kNearTie) << p.text << " step " << step << ": " << chosen << " not " << p.tokens[step];
      printf("near tie: %.30s.. step %zu: %d for %d, reference's gap %.5f\n", p.text.c_str(), step, chosen,
             p.tokens[step], p.gaps[step]);
      ++near_ties;
    }
  }
  EXPECT_EQ(steps, static_cast<int>(prompts.size()) * 64);
  EXPECT_LT(worst, 0.01);
  printf("%s: %d steps, %d different, all at near ties; largest difference of log-probabilities %.5f nat\n",
         engine->info().kernel.c_str(), steps, near_ties, worst);
}

TEST_P(SmolLm2, ChoosesTheReferencesTokensExceptAtNearTies) {
  if (!exact()) GTEST_SKIP() << "kernel " << GetParam() << " rounds activations: see the next test";
  std::vector<Prompt> prompts = Prompts();
  if (GetParam() == "reference") prompts.resize(2);  // fp64 without any care for speed; all of them below
  if (kSlowBuild) prompts.resize(1);
  ExpectTheReferencesChoices(engine_.get(), prompts);
}

// Minutes: --gtest_also_run_disabled_tests --gtest_filter='*AllPrompts*'.
TEST_P(SmolLm2, DISABLED_AllPromptsInDouble) {
  if (GetParam() != "reference") GTEST_SKIP() << "only the fp64 kernel leaves some out otherwise";
  ExpectTheReferencesChoices(engine_.get(), Prompts());
}

TEST_P(SmolLm2, GivesTheReferencesTokensTheirProbability) {
  if (exact()) GTEST_SKIP() << "see the test before";
  double sum = 0;
  int count = 0;
  for (const Prompt& p : Prompts()) {
    const std::vector<double> logprobs = Logprobs(p.prompt, p.tokens);
    ASSERT_EQ(logprobs.size(), p.tokens.size());
    for (size_t i = 0; i < logprobs.size(); ++i, ++count) sum += std::abs(logprobs[i] - p.logprobs[i]);
  }
  printf("%s: mean difference of log-probabilities %.5f nat over %d tokens\n", GetParam().c_str(), sum / count, count);
  EXPECT_LT(sum / count, kRoundedLogprobMean);
}

TEST_P(SmolLm2, PerplexityIsTheReferences) {
  if (GetParam() == "reference" || kSlowBuild)
    GTEST_SKIP() << "too slow in fp64; the tokens above are the stronger test";
  double ours = 0, theirs = 0;
  int count = 0;
  for (const Passage& p : Passages()) {
    const std::vector<double> logprobs = Logprobs({p.tokens[0]}, {p.tokens.begin() + 1, p.tokens.end()});
    ASSERT_EQ(logprobs.size(), p.logprobs.size());
    for (size_t i = 0; i < logprobs.size(); ++i, ++count) ours -= logprobs[i], theirs -= p.logprobs[i];
  }
  const double perplexity = std::exp(ours / count), reference = std::exp(theirs / count);
  printf("%s: perplexity %.4f, reference %.4f (%+.3f %%)\n", GetParam().c_str(), perplexity, reference,
         100 * (perplexity / reference - 1));
  EXPECT_NEAR(perplexity / reference, 1, exact() ? 1e-4 : kPerplexityRelative);
}

// Activations rounded to 8 bits move the distributions by what the second order says, half the variance of the logits'
// errors under the distribution itself: thirty layers, and a spread of 3.4 where gguf_formats_test has 0.5.
TEST_P(SmolLm2, RoundedActivationsDivergeAsTheirErrorsSay) {
  if (exact() || kSlowBuild) GTEST_SKIP() << "for kernels that round activations";
  const auto unrounded = Load("scalar");
  ASSERT_OK(unrounded);
  const std::vector<TokenId> passage = Passages()[0].tokens, tokens(passage.begin(), passage.begin() + 64);
  std::vector<float> logits, exact_logits;
  ASSERT_OK(engine_->Logits(tokens, &logits));
  ASSERT_OK((*unrounded)->Logits(tokens, &exact_logits));
  const size_t vocab = logits.size() / tokens.size();
  double divergence = 0, second_order = 0;
  for (size_t row = 0; row < logits.size(); row += vocab) {
    const auto p = std::span(std::as_const(exact_logits)).subspan(row, vocab);
    divergence += testing::Divergence(std::span(std::as_const(logits)).subspan(row, vocab), p);
    const double log_sum = p[0] - Logprob(p, 0);
    double mean = 0, square = 0;
    for (size_t i = 0; i < vocab; ++i) {
      const double weight = std::exp(p[i] - log_sum);
      const double error = double{logits[row + i]} - p[i];
      mean += weight * error;
      square += weight * error * error;
    }
    second_order += (square - mean * mean) / 2;
  }
  const auto count = static_cast<double>(tokens.size());
  printf("%s: divergence %.2g nat, by the errors' variance %.2g\n", GetParam().c_str(), divergence / count,
         second_order / count);
  EXPECT_NEAR(divergence / second_order, 1, 0.1);
  EXPECT_LT(divergence / count, 5e-3);
}

// What a user sees: greedy generation, up to the first near tie of the reference.
TEST_P(SmolLm2, GeneratesTheReferencesText) {
  if (GetParam() != "scalar") GTEST_SKIP() << "one f32 kernel is enough";
  std::vector<std::shared_ptr<testing::Generation>> generations;
  std::vector<Prompt> prompts = Prompts();
  prompts.resize(2);
  for (const Prompt& p : prompts) {
    GenerateRequest request;
    request.prompt = p.prompt;
    request.sampling.temperature = 0;
    request.stopping.ignore_end_of_sequence = true;
    request.stopping.output_tokens_max = static_cast<int32_t>(p.tokens.size());
    generations.push_back(std::make_shared<testing::Generation>());
    ASSERT_OK(engine_->Submit(request, generations.back()));
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Prompt& p = prompts[i];
    const auto tie = std::find_if(p.gaps.begin(), p.gaps.end(), [](double gap) { return gap < kNearTie; });
    const size_t comparable = tie - p.gaps.begin();
    const auto& tokens = generations[i]->Wait().sample().tokens;
    ASSERT_EQ(tokens.size(), p.tokens.size());
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.begin() + comparable, p.tokens.begin())) << p.text;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, SmolLm2, ::testing::Values("reference", "scalar", "avx2", "avx512"),
                         [](const auto& kernel) { return kernel.param; });

}  // namespace
}  // namespace conclave::engine
