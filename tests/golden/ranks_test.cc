// SPDX-License-Identifier: Apache-2.0
// Models split over 2 and 4 ranks of the CPU against the same on one: logits within what another order of sums may
// change, the same experts, the same greedy tokens, over chunks, forks and found prefixes; for every family, for
// quantised checkpoints and for the shipped mixture. What cannot be split is an error that says so.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "common/file.h"
#include "engine/engine.h"
#include "tests/golden/family_files.h"
#include "tests/testing/generation.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using ::testing::AllOf;
using testing::ExpertForm;
using testing::FamilyCheckpoint;
using testing::Generation;
using testing::Greedy;
using ::testing::HasSubstr;
using testing::LatentForm;
using testing::StatusIs;
using testing::TempDir;

const std::string kGolden = CONCLAVE_SOURCE_DIR "/tests/golden/";

const nlohmann::json& Golden() {
  static const auto* golden = new nlohmann::json(nlohmann::json::parse(*ReadFile(kGolden + "families.json")));
  return *golden;
}

absl::StatusOr<std::unique_ptr<Engine>> Load(const std::string& path, const std::string& kernel, int32_t ranks,
                                             int32_t step_tokens_max = 33) {
  EngineOptions options;
  options.model_path = path;
  options.tokenizer_optional = true;
  options.kernel = kernel;
  options.threads = 1;
  options.ranks = ranks;
  options.kv_bytes = 4 << 20;
  options.sequences_max = 4;
  options.step_tokens_max = step_tokens_max;
  return Engine::Create(options);
}

// A sum over R ranks rounds R products and R - 1 sums to f32, 2^-24 each, of parts that may be four times as large as
// their sum; there are two in each of at most four layers, and logits of at most 16 take over the relative error of
// what they are made of, which norms and residuals keep. Kernels that cache halves round 2^13 times as coarsely where a
// change takes a key or value over the border of two.
double LogitBound(const std::string& kernel, int32_t ranks) {
  const double unit = std::exp2(-24) * 4 * 2 * ranks * 2 * 4 * 16;
  return kernel == "reference" || kernel == "scalar" ? unit : std::exp2(13) * unit / ranks;
}

double Worst(std::span<const float> a, std::span<const float> b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double{a[i]} - b[i]));
  return worst;
}

// The model at `path` on as many ranks says what it says on one.
void ExpectSame(const std::string& path, const std::string& kernel, int32_t ranks, const std::vector<TokenId>& prompt,
                const std::vector<TokenId>& greedy) {
  SCOPED_TRACE(path + " " + kernel + " on " + std::to_string(ranks) + " ranks");
  const auto one = Load(path, kernel, 1), several = Load(path, kernel, ranks);
  ASSERT_OK(one);
  ASSERT_OK(several);
  EXPECT_EQ((*several)->info().params_total, (*one)->info().params_total);
  EXPECT_EQ((*several)->info().weight_bytes, (*one)->info().weight_bytes);
  EXPECT_EQ((*several)->info().flops_per_token, (*one)->info().flops_per_token);
  EXPECT_EQ((*several)->info().quantization, (*one)->info().quantization);
  ASSERT_EQ((*several)->memory().ranks.size(), static_cast<size_t>(ranks));
  std::vector<float> expected, logits;
  ASSERT_OK((*one)->Logits(prompt, &expected));
  ASSERT_OK((*several)->Logits(prompt, &logits));
  ASSERT_EQ(logits.size(), expected.size());
  const double worst = Worst(logits, expected);
  std::printf("%s %s %d ranks: logits differ by %.2g\n", path.substr(path.rfind('/') + 1).c_str(), kernel.c_str(),
              ranks, worst);
  EXPECT_LE(worst, LogitBound(kernel, ranks));
  if ((*one)->info().experts > 0) {
    const auto trace_of_one = (*one)->Routing(prompt, {}), trace = (*several)->Routing(prompt, {});
    ASSERT_OK(trace_of_one);
    ASSERT_OK(trace);
    for (size_t layer = 0; layer < trace->size(); ++layer) {
      for (size_t t = 0; t < prompt.size(); ++t) {
        EXPECT_EQ((*trace)[layer][t].experts, (*trace_of_one)[layer][t].experts) << "layer " << layer << " token " << t;
      }
    }
  }
  // The second time the prompt is found; the samples fork its pages.
  for (int i = 0; i < 2; ++i) {
    GenerateRequest request;
    request.prompt = prompt;
    request.samples = 3;
    request.sampling.temperature = 0;
    request.stopping.output_tokens_max = static_cast<int32_t>(greedy.size());
    request.stopping.ignore_end_of_sequence = true;
    auto generation = std::make_shared<Generation>();
    ASSERT_OK((*several)->Submit(request, generation));
    ASSERT_OK(generation->Wait().status());
    if (i == 1) {
      EXPECT_GT(generation->usage().cached_prompt_tokens, 0);
    }
    for (int32_t sample = 0; sample < 3; ++sample) EXPECT_EQ(generation->sample(sample).tokens, greedy);
  }
}

std::vector<TokenId> Tokens(const nlohmann::json& json) { return json.get<std::vector<TokenId>>(); }

struct RankCase {
  const char* kernel;
  int32_t ranks;
};
constexpr std::initializer_list<RankCase> kRankCases = {{"reference", 4}, {"scalar", 2}, {"scalar", 4}, {"auto", 2}};

class FamiliesOnRanks : public ::testing::TestWithParam<size_t> {
 protected:
  const nlohmann::json& golden_case() const { return Golden()["cases"][GetParam()]; }
  void ExpectGolden(const std::string& path, std::initializer_list<RankCase> cases) {
    for (const RankCase& c : cases) {
      ExpectSame(path, c.kernel, c.ranks, Tokens(Golden()["prompt"]), Tokens(golden_case()["runs"][0]["greedy"]));
    }
  }
  TempDir folder_;
};

TEST_P(FamiliesOnRanks, SayTheSame) {
  const FamilyCheckpoint family(golden_case());
  const std::string type = family.config["model_type"];
  const std::string directory = folder_.Path("f32");
  std::filesystem::create_directory(directory);
  WriteFamilyDirectory(family, DType::kF32, ExpertForm::kSeparate, directory);
  if (type == "olmoe") {
    EXPECT_OK(Load(directory, "scalar", 1));
    EXPECT_THAT(Load(directory, "scalar", 2).status(),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("olmoe's norm over all heads")));
    return;
  }
  ExpectGolden(directory, kRankCases);
  if (type == "gpt_oss") {
    const std::string turned = folder_.Path("microscaled");
    std::filesystem::create_directory(turned);
    WriteFamilyDirectory(family, DType::kBF16, ExpertForm::kMicroscaled, turned);
    ExpectGolden(turned, {{"scalar", 4}});
  }
  if (!GgufArchitecture(family).empty()) {
    const std::string gguf = folder_.Path("bf16.gguf");
    FamilyGguf(family, DType::kBF16).Write(gguf);
    ExpectGolden(gguf, {{"scalar", 2}});
  }
  if (family.config.contains("kv_lora_rank") && !GgufArchitecture(family).empty()) {
    const std::string joined = folder_.Path("joined.gguf");
    FamilyGguf(family, DType::kBF16, LatentForm::kJoined).Write(joined);
    ExpectGolden(joined, {{"scalar", 4}, {"auto", 4}});
  }
}

INSTANTIATE_TEST_SUITE_P(All, FamiliesOnRanks, ::testing::Range(size_t{0}, Golden()["cases"].size()),
                         [](const auto& tested) {
                           return Golden()["cases"][tested.param]["name"].template get<std::string>();
                         });

class DenseOnRanks : public ::testing::TestWithParam<std::string> {};

TEST_P(DenseOnRanks, SayTheSame) {
  const std::string path = kGolden + "hf/" + GetParam();
  const auto golden = nlohmann::json::parse(*ReadFile(path + "/golden.json"));
  for (const RankCase& c : kRankCases) {
    ExpectSame(path, c.kernel, c.ranks, Tokens(golden["prompt"]), Tokens(golden["greedy"]));
  }
}

INSTANTIATE_TEST_SUITE_P(All, DenseOnRanks, ::testing::Values("llama", "llama_bias", "mistral", "qwen2", "qwen3"),
                         [](const auto& tested) { return tested.param; });

// Two ranks of every quantised format: the same tokens, or, where a rank's columns would begin inside a group, an error
// that names the tensor.
struct QuantizedCase {
  const char* name;
  const char* error = nullptr;
};
class QuantizedOnRanks : public ::testing::TestWithParam<QuantizedCase> {};

TEST_P(QuantizedOnRanks, SayTheSameOrWhyNot) {
  const auto& [name, error] = GetParam();
  const std::string path = kGolden + "quantized/" + name;
  if (error != nullptr) {
    EXPECT_THAT(
        Load(path, "scalar", 2).status(),
        StatusIs(absl::StatusCode::kUnimplemented, AllOf(HasSubstr("tensor \"model.layers."), HasSubstr(error))));
    return;
  }
  const auto golden = nlohmann::json::parse(*ReadFile(path + "/golden.json"));
  const std::vector<TokenId> prompt = Tokens(golden["prompt"]);
  const auto one = Load(path, "scalar", 1);
  ASSERT_OK(one);
  ExpectSame(path, "scalar", 2, prompt, Greedy(**one, prompt, 12));
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedOnRanks,
                         ::testing::Values(QuantizedCase{"awq", "INT4_G64 has blocks of 64"}, QuantizedCase{"awq_moe"},
                                           QuantizedCase{"gptq_sym", "INT4_G64 has blocks of 64"},
                                           QuantizedCase{"gptq_desc_act", "act-order"},
                                           QuantizedCase{"gptq_v2", "INT4_G128"}, QuantizedCase{"gptq_8bit"},
                                           QuantizedCase{"gptq_latent", "act-order"},
                                           QuantizedCase{"fp8_block", "FP8_G128 has blocks of 128"},
                                           QuantizedCase{"packed"}, QuantizedCase{"packed_8bit"},
                                           QuantizedCase{"packed_experts", "INT4_G32 has blocks of 32"}),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(ShippedMixtureOnRanks, SaysTheSameExceptAtNearTies) {
  const std::string zoo = CONCLAVE_SOURCE_DIR "/zoo/";
  const auto golden = nlohmann::json::parse(*ReadFile(zoo + "goldens/mixture.json"));
  const auto engine = Load(zoo + "models/mixture", "scalar", 2);
  ASSERT_OK(engine);
  for (size_t i = 0; i < 8; ++i) {
    const nlohmann::json& item = golden["greedy"][i];
    const ChatMessage message = {.role = "user", .content = item["user"]};
    const auto prompt = (*engine)->ApplyChatTemplate({&message, 1}, /*add_generation_prompt=*/true, 0);
    ASSERT_OK(prompt);
    const std::vector<TokenId> expected = Tokens(item["ids"]);
    const std::vector<TokenId> tokens = Greedy(**engine, prompt->tokens, expected.size());
    const auto place = std::mismatch(expected.begin(), expected.end(), tokens.begin(), tokens.end());
    if (place.first == expected.end()) continue;
    const auto near_ties = item["near_ties"].get<std::vector<size_t>>();
    EXPECT_NE(std::find(near_ties.begin(), near_ties.end(), place.first - expected.begin()), near_ties.end())
        << "item " << i << " differs at token " << place.first - expected.begin();
  }
}

}  // namespace
}  // namespace conclave::engine
