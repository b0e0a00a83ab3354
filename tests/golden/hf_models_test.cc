// SPDX-License-Identifier: Apache-2.0
// Tiny random checkpoints in safetensors (make_hf_models.py) against transformers in float64: logits of every position,
// greedy tokens, in one piece and across pages, and the same weights as stories260K in GGUF.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/status.h"
#include "engine/engine.h"
#include "tests/testing/generation.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using testing::Generation;

const std::string kGolden = std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/hf/";

std::unique_ptr<Engine> Load(const std::string& path, const std::string& kernel) {
  EngineOptions options;
  options.model_path = path;
  options.tokenizer_optional = true;
  options.kernel = kernel;
  options.threads = 1;
  options.kv_bytes = 8 << 20;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
  EXPECT_OK(engine);
  return engine.ok() ? *std::move(engine) : nullptr;
}

std::vector<TokenId> Greedy(Engine& engine, const std::vector<TokenId>& prompt, size_t count) {
  GenerateRequest request;
  request.prompt = prompt;
  request.sampling.temperature = 0;
  request.stopping.output_tokens_max = static_cast<int32_t>(count);
  request.stopping.ignore_end_of_sequence = true;
  auto generation = std::make_shared<Generation>();
  EXPECT_OK(engine.Submit(request, generation));
  EXPECT_OK(generation->Wait().status());
  return generation->sample().tokens;
}

class HfModels : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(HfModels, LogitsAndGreedyTokens) {
  const auto& [name, kernel] = GetParam();
  const auto golden = nlohmann::json::parse(*ReadFile(kGolden + name + "/golden.json"));
  const std::unique_ptr<Engine> engine = Load(kGolden + name, kernel);
  ASSERT_NE(engine, nullptr);
  const auto prompt = golden["prompt"].get<std::vector<TokenId>>();
  std::vector<float> logits;
  ASSERT_OK(engine->Logits(prompt, &logits));
  double worst = 0;
  size_t i = 0;
  for (const auto& row : golden["logits"]) {
    for (const auto& logit : row) worst = std::max(worst, std::abs(logits.at(i++) - logit.get<double>()));
  }
  EXPECT_EQ(i, logits.size());
  RecordProperty("largest_difference", fmt::format("{}", worst));
  std::printf("%s %s: largest difference %.2g\n", name.c_str(), kernel.c_str(), worst);
  EXPECT_LT(worst, 1e-3);
  const auto expected = golden["greedy"].get<std::vector<TokenId>>();
  ASSERT_GT(golden["smallest_margin"].get<double>(), 1e-3);
  EXPECT_EQ(Greedy(*engine, prompt, expected.size()), expected);
}

INSTANTIATE_TEST_SUITE_P(Families, HfModels,
                         ::testing::Combine(::testing::Values("llama", "llama_bias", "mistral", "qwen2", "qwen3"),
                                            ::testing::Values("reference", "scalar")),
                         [](const auto& test) { return std::get<0>(test.param) + "_" + std::get<1>(test.param); });

// The shared directory holds the weights of stories260K as Hugging Face lays them out, without a tokenizer.
TEST(HfModels, Stories260KSaysTheSameAsItsGguf) {
  SKIP_WITHOUT_SHARED(model, "data/weights/stories260K_hf/dense");
  SKIP_WITHOUT_SHARED(golden_path, "data/weights/golden/stories260K.greedy.json");
  const auto golden = nlohmann::json::parse(*ReadFile(golden_path));
  const auto expected = golden["tokens"].get<std::vector<TokenId>>();
  for (const char* kernel : {"reference", "scalar"}) {
    const std::unique_ptr<Engine> engine = Load(model, kernel);
    ASSERT_NE(engine, nullptr);
    std::vector<TokenId> tokens = {expected[0]};
    for (const TokenId token : Greedy(*engine, tokens, expected.size() - 1)) tokens.push_back(token);
    EXPECT_EQ(tokens, expected) << kernel;
    EXPECT_EQ(engine->info().name, "dense");
    EXPECT_EQ(engine->info().quantization, "F32");
  }
}

}  // namespace
}  // namespace conclave::engine
