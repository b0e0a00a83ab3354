// SPDX-License-Identifier: Apache-2.0
// stories260K against what llama2.c gives for the same weights: greedy text of 200 tokens, and logits.
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

class Stories260K : public ::testing::TestWithParam<std::string> {};

std::unique_ptr<Engine> Load(const std::string& path, const std::string& kernel) {
  EngineOptions options;
  options.model_path = path;
  options.kernel = kernel;
  options.threads = 2;
  options.kv_bytes = 64 << 20;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
  if (engine.status().code() == absl::StatusCode::kFailedPrecondition) return nullptr;
  if (kernel == "cuda" && engine.status().code() == absl::StatusCode::kUnimplemented) return nullptr;
  EXPECT_OK(engine);
  return engine.ok() ? *std::move(engine) : nullptr;
}

TEST_P(Stories260K, GreedyTextEqualsTheGolden) {
  SKIP_WITHOUT_SHARED(model, "data/weights/stories260K/stories260K.gguf");
  SKIP_WITHOUT_SHARED(golden_path, "data/weights/golden/stories260K.greedy.json");
  const auto golden = nlohmann::json::parse(*ReadFile(golden_path));
  const std::unique_ptr<Engine> engine = Load(model, GetParam());
  if (engine == nullptr) GTEST_SKIP() << "this machine cannot run kernel " << GetParam();

  const auto expected = golden["tokens"].get<std::vector<TokenId>>();
  GenerateRequest request;
  request.prompt = {expected[0]};  // the begin token alone
  request.sampling.temperature = 0;
  request.stopping.output_tokens_max = static_cast<int32_t>(expected.size()) - 1;
  request.stopping.ignore_end_of_sequence = true;
  auto generation = std::make_shared<Generation>();
  ASSERT_OK(engine->Submit(request, generation));
  EXPECT_OK(generation->Wait().status());
  std::vector<TokenId> tokens = request.prompt;
  tokens.insert(tokens.end(), generation->sample().tokens.begin(), generation->sample().tokens.end());
  EXPECT_EQ(tokens, expected);
  EXPECT_EQ(generation->sample().finished, FinishReason::kLength);
  // Generated text goes on from a prompt, so its leading space stays.
  EXPECT_EQ(generation->sample().text.substr(1),
            golden["text"].get<std::string>().substr(0, generation->sample().text.size() - 1));
}

TEST_P(Stories260K, LogitsAreNearTheGolden) {
  SKIP_WITHOUT_SHARED(model, "data/weights/stories260K/stories260K.gguf");
  SKIP_WITHOUT_SHARED(golden_path, "data/weights/golden/stories260K.logits40.jsonl.gz");
  const std::unique_ptr<Engine> engine = Load(model, GetParam());
  if (engine == nullptr) GTEST_SKIP() << "this machine cannot run kernel " << GetParam();
  const std::string lines = *ReadMaybeGzip(golden_path);
  std::vector<TokenId> tokens;
  std::vector<float> expected;
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = std::min(lines.find('\n', begin), lines.size());
    const auto line = nlohmann::json::parse(lines.substr(begin, end - begin));
    tokens.push_back(line["token"].get<TokenId>());
    for (const auto& logit : line["logits"]) expected.push_back(logit.get<float>());
    begin = end + 1;
  }
  std::vector<float> logits;
  ASSERT_OK(engine->Logits(tokens, &logits));
  ASSERT_EQ(logits.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) worst = std::max(worst, std::abs(double{logits[i]} - expected[i]));
  RecordProperty("largest_difference", fmt::format("{}", worst));
  // f32 kernels differ from the golden by the order of their sums; CUDA also rounds the cache to 16 bits, the others
  // activations to 8 as well.
  const bool exact = GetParam() == "reference" || GetParam() == "scalar";
  EXPECT_LT(worst, exact ? 2e-3 : GetParam() == "cuda" ? 2e-2 : 0.3);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Stories260K, ::testing::Values("reference", "scalar", "avx2", "avx512", "cuda"),
                         [](const auto& kernel) { return kernel.param; });

}  // namespace
}  // namespace conclave::engine
