// SPDX-License-Identifier: Apache-2.0
// The shipped scale models (zoo/models) against the program that trained them (zoo/train, zoo_train.goldens), which
// computed zoo/goldens in f32 from the same bf16 weights: logits, the mixture's chosen experts, and greedy text.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/status.h"
#include "engine/engine.h"
#include "tests/testing/generation.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using testing::Generation;

const std::string kZoo = std::string(CONCLAVE_SOURCE_DIR) + "/zoo/";
constexpr double kLogitDifferenceMax = 1e-3;
// Activations are rounded to bf16, keys and values to f16: relative errors of 2^-8 in what each of a dozen layers adds,
// times logits of up to 30.
constexpr double kCudaLogitDifferenceMax = 0.3;

// Sanitised kernels are some fifty times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kGreedyMax = 3;
#else
constexpr size_t kGreedyMax = 1000;
#endif

struct Model {
  nlohmann::json golden;
  std::unique_ptr<Engine> engine;
};

void Load(const std::string& name, const std::string& kernel, Model* model) {
  absl::StatusOr<std::string> text = ReadFile(kZoo + "goldens/" + name + ".json");
  ASSERT_OK(text);
  model->golden = nlohmann::json::parse(*text);
  EngineOptions options;
  options.model_path = kZoo + "models/" + name;
  options.kernel = kernel;
  options.threads = 2;
  options.kv_bytes = 64 << 20;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
  if (kernel == "cuda" && !engine.ok()) GTEST_SKIP() << engine.status().message();
  ASSERT_OK(engine);
  model->engine = *std::move(engine);
}

std::vector<TokenId> PromptOf(const Engine& engine, const nlohmann::json& golden) {
  const ChatMessage message = {.role = "user", .content = golden["user"]};
  const auto prompt = engine.ApplyChatTemplate({&message, 1}, /*add_generation_prompt=*/true, /*now_unix_seconds=*/0);
  EXPECT_OK(prompt);
  return prompt.ok() ? prompt->tokens : std::vector<TokenId>{};
}

// Of a test: a dash is not allowed there.
std::string NameOf(std::string model) {
  std::replace(model.begin(), model.end(), '-', '_');
  return model;
}

class ZooLogits : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(ZooLogits, AreThoseOfTheTrainer) {
  const auto& [name, kernel] = GetParam();
  Model model;
  ASSERT_NO_FATAL_FAILURE(Load(name, kernel, &model));
  if (IsSkipped()) return;
  const size_t vocab = model.engine->info().vocab;
  double worst = 0;
  for (const auto& golden : model.golden["logits"]) {
    const auto ids = golden["ids"].get<std::vector<TokenId>>();
    const auto expected = golden["logits"].get<std::vector<double>>();
    const std::vector<TokenId> prompt = PromptOf(*model.engine, golden);
    ASSERT_LE(ids.size(), prompt.size());
    ASSERT_TRUE(std::equal(ids.begin(), ids.end(), prompt.begin())) << "another tokenisation of " << golden["user"];
    std::vector<float> logits;
    ASSERT_OK(model.engine->Logits(ids, &logits));
    ASSERT_EQ(logits.size(), ids.size() * vocab);
    ASSERT_EQ(expected.size(), vocab);
    const auto last = logits.end() - static_cast<ptrdiff_t>(vocab);
    for (size_t i = 0; i < vocab; ++i) worst = std::max(worst, std::abs(last[i] - expected[i]));
  }
  printf("%s %s: largest difference of logits %.2g\n", name.c_str(), kernel.c_str(), worst);
  EXPECT_LT(worst, kernel == "cuda" ? kCudaLogitDifferenceMax : kLogitDifferenceMax);
}

INSTANTIATE_TEST_SUITE_P(Models, ZooLogits,
                         ::testing::Combine(::testing::Values("m01", "m20", "mixture", "mixture-long", "student"),
                                            ::testing::Values("reference", "scalar", "cuda")),
                         [](const auto& test) {
                           return NameOf(std::get<0>(test.param)) + "_" + std::get<1>(test.param);
                         });

TEST(ZooMixture, ChoosesTheTrainersExperts) {
  Model model;
  ASSERT_NO_FATAL_FAILURE(Load("mixture", "scalar", &model));
  int compared = 0, near_ties = 0;
  for (const auto& golden : model.golden["logits"]) {
    if (!golden.contains("experts")) continue;
    const auto ids = golden["ids"].get<std::vector<TokenId>>();
    const auto trace = model.engine->Routing(ids, {});
    ASSERT_OK(trace);
    const size_t dense_layers = trace->size() - golden["experts"].size();
    for (size_t layer = 0; layer < golden["experts"].size(); ++layer) {
      const auto& tokens = golden["experts"][layer];
      ASSERT_EQ(tokens.size(), ids.size());
      for (size_t token = 0; token < tokens.size(); ++token) {
        if (tokens[token].is_null()) {  // the last chosen and the first left out score the same, nearly
          ++near_ties;
          continue;
        }
        std::vector<int32_t> chosen = (*trace)[dense_layers + layer][token].experts;
        std::sort(chosen.begin(), chosen.end());
        EXPECT_EQ(chosen, tokens[token].get<std::vector<int32_t>>()) << "layer " << layer << " token " << token;
        ++compared;
      }
    }
  }
  printf("mixture: the same experts in %d places, %d near ties left out\n", compared, near_ties);
  EXPECT_GT(compared, 20 * near_ties);
  EXPECT_GT(compared, 500);
}

// The first place where the texts differ; nullopt where they do not. Our tokens hold the one that ends the text.
std::optional<size_t> Difference(const nlohmann::json& golden, TokenId end, const Generation& generation) {
  auto expected = golden["ids"].get<std::vector<TokenId>>();
  if (golden["ended"]) expected.push_back(end);
  const auto& sample = generation.sample();
  const auto place = std::mismatch(expected.begin(), expected.end(), sample.tokens.begin(), sample.tokens.end());
  if (place.first != expected.end()) return place.first - expected.begin();
  EXPECT_EQ(sample.tokens.size(), expected.size());
  EXPECT_EQ(sample.text, golden["text"].get<std::string>());
  EXPECT_EQ(sample.finished, golden["ended"] ? FinishReason::kStop : FinishReason::kLength);
  return std::nullopt;
}

class ZooGreedy : public ::testing::TestWithParam<std::string> {};

TEST_P(ZooGreedy, TextIsTheTrainersExceptAtNearTies) {
  Model model;
  ASSERT_NO_FATAL_FAILURE(Load(GetParam(), "scalar", &model));
  const auto& greedy = model.golden["greedy"];
  const size_t count = std::min(kGreedyMax, greedy.size());
  std::vector<std::shared_ptr<Generation>> generations;
  for (size_t i = 0; i < count; ++i) {
    GenerateRequest request;
    request.prompt = PromptOf(*model.engine, greedy[i]);
    ASSERT_EQ(request.prompt.size(), greedy[i]["prompt_tokens"].get<size_t>());
    request.sampling.temperature = 0;
    request.stopping.output_tokens_max = model.golden["new_tokens"];
    generations.push_back(std::make_shared<Generation>());
    ASSERT_OK(model.engine->Submit(std::move(request), generations.back()));
  }
  ASSERT_EQ(model.engine->end_tokens().size(), 1u);
  const TokenId end = model.engine->end_tokens()[0];
  size_t same = 0, tokens = 0;
  for (size_t i = 0; i < count; ++i) {
    ASSERT_OK(generations[i]->Wait().status());
    tokens += greedy[i]["ids"].size();
    const std::optional<size_t> place = Difference(greedy[i], end, *generations[i]);
    if (!place.has_value()) {
      ++same;
      continue;
    }
    const auto near_ties = greedy[i]["near_ties"].get<std::vector<size_t>>();
    EXPECT_TRUE(std::find(near_ties.begin(), near_ties.end(), *place) != near_ties.end())
        << "item " << i << " differs at token " << *place << ", which is no near tie\nexpected: " << greedy[i]["text"]
        << "\ngot: " << generations[i]->sample().text;
  }
  printf("%s: %zu of %zu greedy texts the same (%zu tokens), the others differ at near ties\n", GetParam().c_str(),
         same, count, tokens);
  EXPECT_GE(same * 100, count * 95) << "near ties are rare";
}

INSTANTIATE_TEST_SUITE_P(Models, ZooGreedy, ::testing::Values("m01", "m20", "mixture", "mixture-long", "student"),
                         [](const auto& test) { return NameOf(test.param); });

}  // namespace
}  // namespace conclave::engine
