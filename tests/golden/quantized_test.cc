// SPDX-License-Identifier: Apache-2.0
// Checkpoints in every quantised format (make_quantized.py) against transformers in float64 on weights that the script
// dequantised: logits, log-likelihoods, greedy tokens; and what the loader keeps of them in memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <future>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/status.h"
#include "engine/engine.h"
#include "tests/testing/divergence.h"
#include "tests/testing/generation.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using testing::Divergence;
using testing::Greedy;

const std::string kFolder = std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/quantized/";

struct Case {
  const char* name;
  const char* formats;  // of the matrices in memory
  bool rounds = true;   // integer codes: kernels other than reference and scalar round activations to 8 bits
};
constexpr Case kCases[] = {
    {"awq", "mixed BF16 INT4_G64"},
    {"awq_moe", "mixed BF16 INT4_G32"},
    {"gptq_sym", "mixed BF16 INT4_G64"},
    {"gptq_desc_act", "mixed BF16 INT4_G32"},
    {"gptq_v2", "mixed BF16 INT4_G128"},
    {"gptq_8bit", "mixed BF16 INT8_G32"},
    {"gptq_latent", "mixed BF16 INT4_G32"},
    {"fp8_block", "mixed BF16 FP8_G128", false},
    {"fp8_tensor", "mixed BF16 FP8_G128", false},
    {"fp8_latent", "mixed BF16 FP8_G128", false},
    {"packed", "mixed BF16 INT4_G32"},
    {"packed_asym", "mixed BF16 INT4_G64"},
    {"packed_g_idx", "mixed BF16 INT4_G32"},
    {"packed_8bit", "mixed BF16 INT8_G32"},
    {"packed_experts", "mixed BF16 INT4_G32"},
    {"compressed_fp8", "mixed BF16 FP8_G128", false},
};

bool IsExact(const std::string& kernel) { return kernel == "reference" || kernel == "scalar"; }

absl::StatusOr<std::unique_ptr<Engine>> Load(const Case& tested, const std::string& kernel) {
  EngineOptions options;
  options.model_path = kFolder + tested.name;
  options.tokenizer_optional = true;
  options.kernel = kernel;
  options.threads = 2;
  options.kv_bytes = 4 << 20;
  options.sequences_max = 4;
  options.step_tokens_max = 33;  // the prompt takes two steps
  return Engine::Create(options);
}

double LogLikelihood(Engine& engine, const std::vector<TokenId>& tokens, std::ptrdiff_t from) {
  std::promise<double> promise;
  const std::vector<TokenId> prompt(tokens.begin(), tokens.begin() + from), rest(tokens.begin() + from, tokens.end());
  EXPECT_OK(engine.Score({.prompt = prompt, .continuations = {rest}, .routing = {}, .cache_salt = {}},
                         [&promise](absl::StatusOr<ScoreResult> result) {
                           promise.set_value(result.ok() ? result->continuations[0].logprob : NAN);
                         }));
  return promise.get_future().get();
}

class Quantized : public ::testing::TestWithParam<std::tuple<Case, std::string>> {
 protected:
  void SetUp() override {
    auto engine = Load(tested_, kernel_);
    if (!engine.ok() && engine.status().message().find("this CPU") != std::string::npos) GTEST_SKIP() << kernel_;
    ASSERT_OK(engine);
    engine_ = *std::move(engine);
    golden_ = nlohmann::json::parse(*ReadFile(kFolder + tested_.name + "/golden.json"));
    prompt_ = golden_["prompt"].get<std::vector<TokenId>>();
  }
  // Kernels other than the exact ones keep keys and values in f16, relative errors of 2^-11 in what attention adds; and
  // round activations of integer codes to a 127th of the largest of 32: an error of 2.4 / 127 / sqrt(12) = 0.55 % of a
  // product's spread, over up to fourteen products, of which those in a row add up, some 1.5 % of the logits' spread of
  // 0.8. The worst of 480 is four times that far off, and the divergence half its square: 7e-5.
  double LogitBound() const { return IsExact(kernel_) ? 1e-3 : tested_.rounds ? 5e-2 : 5e-3; }

  const Case tested_ = std::get<0>(GetParam());
  const std::string kernel_ = std::get<1>(GetParam());
  std::unique_ptr<Engine> engine_;
  nlohmann::json golden_;
  std::vector<TokenId> prompt_;
};

TEST_P(Quantized, EqualsTransformersOnDequantizedWeights) {
  EXPECT_EQ(engine_->info().quantization, tested_.formats);
  std::vector<float> logits;
  ASSERT_OK(engine_->Logits(prompt_, &logits));
  const size_t vocab = static_cast<size_t>(engine_->info().vocab);
  double worst = 0, divergence = 0;
  const std::vector<size_t> positions = golden_["positions"];
  for (size_t i = 0; i < positions.size(); ++i) {
    const std::vector<double> expected = golden_["logits"][i];
    const std::span<const float> row = std::span(logits).subspan(positions[i] * vocab, vocab);
    for (size_t v = 0; v < vocab; ++v) worst = std::max(worst, std::abs(row[v] - expected[v]));
    divergence = std::max(divergence, Divergence(row, expected));
  }
  const double likelihood = LogLikelihood(*engine_, prompt_, golden_["scored_from"]);
  const double off = std::abs(likelihood - golden_["log_likelihood"].get<double>());
  std::printf("%s %s: logits differ by %.2g, divergence %.2g, log-likelihood %.2g\n", tested_.name, kernel_.c_str(),
              worst, divergence, off);
  EXPECT_LE(worst, LogitBound());
  EXPECT_LE(divergence, 1e-4);
  EXPECT_LE(off, IsExact(kernel_) ? 1e-3 : 4 * LogitBound());  // of 20 tokens, whose errors hardly add up
}

// Exact kernels say the same; for others each choice after the golden's own text, except where the two best are closer
// than the logits' bound allows to tell.
TEST_P(Quantized, GreedyTokens) {
  const auto expected = golden_["greedy"].get<std::vector<TokenId>>();
  if (IsExact(kernel_)) {
    EXPECT_EQ(Greedy(*engine_, prompt_, expected.size()), expected);
    return;
  }
  std::vector<TokenId> tokens = prompt_;
  tokens.insert(tokens.end(), expected.begin(), expected.end());
  std::vector<float> logits;
  ASSERT_OK(engine_->Logits(tokens, &logits));
  const size_t vocab = static_cast<size_t>(engine_->info().vocab);
  size_t compared = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (golden_["margins"][i].get<double>() <= 2 * LogitBound()) continue;
    const auto row = std::span(logits).subspan((prompt_.size() - 1 + i) * vocab, vocab);
    EXPECT_EQ(std::max_element(row.begin(), row.end()) - row.begin(), expected[i]) << "token " << i;
    ++compared;
  }
  EXPECT_GE(compared, expected.size() / 3);
}

// Weights stay in the file's precision: codes are repacked, norms become floats; so does latent attention's joined
// matrix, which real models have little of.
TEST_P(Quantized, ResidentSizeIsTheFiles) {
  double allowed = 1.1 * static_cast<double>(std::filesystem::file_size(kFolder + tested_.name + "/model.safetensors"));
  const auto config = nlohmann::json::parse(*ReadFile(kFolder + tested_.name + "/config.json"));
  if (config.contains("kv_lora_rank")) {
    const int per_head = config["qk_nope_head_dim"].get<int>() + config["v_head_dim"].get<int>();
    const int elements = config["num_attention_heads"].get<int>() * per_head * config["kv_lora_rank"].get<int>();
    allowed += 4.0 * elements * config["num_hidden_layers"].get<int>();
  }
  EXPECT_LE(static_cast<double>(engine_->memory().weight_bytes), allowed);
}

INSTANTIATE_TEST_SUITE_P(Formats, Quantized,
                         ::testing::Combine(::testing::ValuesIn(kCases),
                                            ::testing::Values("reference", "scalar", "avx2", "avx512")),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + "_" + std::get<1>(test.param);
                         });

}  // namespace
}  // namespace conclave::engine
