// SPDX-License-Identifier: Apache-2.0
// Tiny random checkpoints of every family with experts, latent attention or sliding windows, in every form it comes in,
// against transformers (make_families.py): logits, routing and greedy tokens, with the family's own number of experts
// per token and with half of it, over prompts that cross pages and chunks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "common/file.h"
#include "engine/engine.h"
#include "engine/ops/ops.h"
#include "tests/golden/family_files.h"
#include "tests/testing/divergence.h"
#include "tests/testing/generation.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using testing::Divergence;
using testing::ExpertForm;
using testing::FamilyCheckpoint;
using testing::Generation;
using testing::LatentForm;
using testing::TempDir;

const nlohmann::json& Golden() {
  static const auto* golden =
      new nlohmann::json(nlohmann::json::parse(*ReadFile(CONCLAVE_SOURCE_DIR "/tests/golden/families.json")));
  return *golden;
}

// Reference and scalar kernels compute in f32 or wider throughout. The others keep keys and values in f16: relative
// errors of 2^-11 in what attention adds, over a few layers, times logits of spread 2.
// CUDA's attention rounds queries and probabilities to f16 too: twice as much mean square.
double LogitBound(const std::string& kernel) {
  if (kernel == "reference" || kernel == "scalar") return 1e-3;
  return kernel == "cuda" ? 4.3e-2 : 3e-2;
}

std::unique_ptr<Engine> Load(const std::string& path, const std::string& kernel, int32_t step_tokens_max) {
  EngineOptions options;
  options.model_path = path;
  options.tokenizer_optional = true;
  options.kernel = kernel;
  options.threads = 2;
  options.kv_bytes = 4 << 20;
  options.sequences_max = 4;
  options.step_tokens_max = step_tokens_max;
  auto engine = Engine::Create(options);
  if (!engine.ok() && engine.status().message().find("this CPU") != std::string::npos) return nullptr;
  EXPECT_OK(engine);
  return engine.ok() ? *std::move(engine) : nullptr;
}

// The case with every expert chosen for every token.
FamilyCheckpoint EveryExpert(nlohmann::json* golden_case) {
  nlohmann::json& config = (*golden_case)["config"];
  for (const char* key : {"num_experts", "n_routed_experts", "num_local_experts"}) {
    if (config.contains(key) && !config[key].is_null()) config["num_experts_per_tok"] = config[key];
  }
  if (config.contains("n_group")) config["topk_group"] = config["n_group"];
  return FamilyCheckpoint(*golden_case);
}

void ExpectRouting(const nlohmann::json& run, const RoutingTrace& trace) {
  const std::vector<size_t> positions = Golden()["positions"];
  size_t expert_layer = 0;
  for (const std::vector<ExpertChoice>& layer : trace) {
    if (layer[0].experts.empty()) continue;  // a dense one
    const nlohmann::json& expected = run["routing"][expert_layer++];
    for (size_t i = 0; i < positions.size(); ++i) {
      const ExpertChoice& choice = layer[positions[i]];
      std::vector<std::pair<int32_t, float>> sorted;
      for (size_t s = 0; s < choice.experts.size(); ++s) sorted.emplace_back(choice.experts[s], choice.weights[s]);
      std::sort(sorted.begin(), sorted.end());
      ASSERT_EQ(sorted.size(), expected[i]["experts"].size());
      for (size_t s = 0; s < sorted.size(); ++s) {
        EXPECT_EQ(sorted[s].first, expected[i]["experts"][s]) << "layer " << expert_layer << " position " << i;
        EXPECT_NEAR(sorted[s].second, expected[i]["weights"][s].get<float>(), 1e-4);
      }
    }
  }
  EXPECT_EQ(expert_layer, run["routing"].size());
}

double LogSum(const auto& logits) {
  double sum = 0;
  for (const auto logit : logits) sum += std::exp(double{logit});
  return std::log(sum);
}

// Compares everything of one case with its checkpoint at `path`.
void ExpectGolden(const nlohmann::json& golden_case, const std::string& path, const std::string& kernel) {
  const std::vector<TokenId> prompt = Golden()["prompt"];
  const std::vector<size_t> positions = Golden()["positions"];
  for (const int32_t step_tokens : {128, 33}) {
    const std::unique_ptr<Engine> engine = Load(path, kernel, step_tokens);
    if (engine == nullptr) return;
    const int32_t native = golden_case["config"].value("num_experts_per_tok", 0);
    EXPECT_EQ(engine->info().experts_per_token, native);
    for (const nlohmann::json& run : golden_case["runs"]) {
      SCOPED_TRACE(path + " " + kernel + " experts " + run["top_k"].dump() + " step " + std::to_string(step_tokens));
      const RoutingPolicy policy = {.top_k = run["top_k"] == native ? 0 : run["top_k"].get<int32_t>()};
      std::vector<float> logits;
      ASSERT_OK(engine->Logits(prompt, &logits, policy));
      const size_t vocab = static_cast<size_t>(engine->info().vocab);
      double worst = 0;
      for (size_t i = 0; i < positions.size(); ++i) {
        const std::vector<double> expected = run["logits"][i];
        const std::span<const float> row = std::span(logits).subspan(positions[i] * vocab, vocab);
        const double shift = LogSum(row) - LogSum(expected);
        for (size_t v = 0; v < vocab; ++v) {
          const double difference = row[v] - expected[v];  // of logits, and, shifted, of log-likelihoods
          worst = std::max({worst, std::abs(difference), std::abs(difference - shift)});
        }
        EXPECT_LE(Divergence(row, expected), 1e-4);
      }
      EXPECT_LE(worst, LogitBound(kernel));
      GenerateRequest request;
      request.prompt = prompt;
      request.sampling.temperature = 0;
      request.stopping.output_tokens_max = static_cast<int32_t>(run["greedy"].size());
      request.stopping.ignore_end_of_sequence = true;
      request.routing = policy;
      auto generation = std::make_shared<Generation>();
      ASSERT_OK(engine->Submit(request, generation));
      ASSERT_OK(generation->Wait().status());
      EXPECT_EQ(generation->sample().tokens, run["greedy"].get<std::vector<TokenId>>());
      if (native == 0 || LogitBound(kernel) > 1e-3) continue;
      const auto trace = engine->Routing(prompt, policy);
      ASSERT_OK(trace);
      ExpectRouting(run, *trace);
    }
  }
}

// Normalised mean square error of the prompt's logits.
void ExpectNearReference(const std::string& path, const std::string& kernel, double bound) {
  const std::vector<TokenId> prompt = Golden()["prompt"];
  std::vector<float> expected, logits;
  ASSERT_OK(Load(path, "reference", 33)->Logits(prompt, &expected));
  const std::unique_ptr<Engine> engine = Load(path, kernel, 33);
  if (engine == nullptr) return;
  EXPECT_EQ(engine->info().experts_per_token, engine->info().experts);
  ASSERT_OK(engine->Logits(prompt, &logits));
  ASSERT_EQ(logits.size(), expected.size());
  double error = 0, power = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    error += std::pow(double{logits[i]} - expected[i], 2);
    power += std::pow(double{expected[i]}, 2);
  }
  std::printf("%s %s: nmse %.2g\n", path.c_str(), kernel.c_str(), error / power);
  EXPECT_LE(error / power, bound) << kernel;
}

class Families : public ::testing::TestWithParam<size_t> {
 protected:
  const nlohmann::json& golden_case() const { return Golden()["cases"][GetParam()]; }
  TempDir folder_;
};

TEST_P(Families, GgufEqualsTransformers) {
  const FamilyCheckpoint family(golden_case());
  if (GgufArchitecture(family).empty()) GTEST_SKIP() << "GGUF has no words for this one";
  const std::string f32 = folder_.Path("f32.gguf"), bf16 = folder_.Path("bf16.gguf"), q4 = folder_.Path("q4.gguf");
  FamilyGguf(family, DType::kF32).Write(f32);
  FamilyGguf(family, DType::kBF16).Write(bf16);
  FamilyGguf(family, DType::kQ4_0).Write(q4);
  for (const char* kernel : {"reference", "scalar", "avx2", "avx512"}) ExpectGolden(golden_case(), f32, kernel);
  for (const char* kernel : {"scalar", "auto"}) ExpectGolden(golden_case(), bf16, kernel);
  // The other kernels round activations to 8 bits here, which moves the choices of such narrow models.
  for (const char* kernel : {"reference", "scalar"}) ExpectGolden(golden_case(), q4, kernel);
  if (!family.config.contains("kv_lora_rank")) return;
  const std::string joined = folder_.Path("joined.gguf");
  FamilyGguf(family, DType::kBF16, LatentForm::kJoined).Write(joined);
  for (const char* kernel : {"scalar", "auto"}) ExpectGolden(golden_case(), joined, kernel);
}

TEST_P(Families, HuggingFaceDirectoriesEqualTransformers) {
  const FamilyCheckpoint family(golden_case());
  const std::string type = family.config["model_type"];
  const bool joins = family.config.contains("num_experts_per_tok") && type != "mixtral" && type != "gpt_oss";
  for (const DType matrices : {DType::kF32, DType::kBF16}) {
    for (const ExpertForm form : {ExpertForm::kSeparate, ExpertForm::kJoined}) {
      if (form == ExpertForm::kJoined && !joins) continue;
      const std::string folder =
          folder_.Path(std::string(Name(matrices)) + (form == ExpertForm::kJoined ? "_joined" : "_separate"));
      std::filesystem::create_directory(folder);
      WriteFamilyDirectory(family, matrices, form, folder);
      for (const char* kernel : {"reference", "scalar", "auto"}) {
        if (matrices == DType::kF32 || form == ExpertForm::kSeparate) ExpectGolden(golden_case(), folder, kernel);
      }
    }
  }
}

// Kernels that round activations to 8 bits move the choices of such narrow models, so here every expert is chosen: then
// errors only add up. A layer's products are four in a row (qkv, back, up, down), each off by 6e-5 of mean square at
// most (gguf_formats_test), a router's weights by the error of what it reads; rows of 32 are one block, whose few
// elements let single errors weigh more: twice as much for all of it. The reference is the engine in float64 on the
// same file, which GgufEqualsTransformers compares with transformers.
TEST_P(Families, RoundingKernelsWithEveryExpertAreNearTheReference) {
  nlohmann::json changed = golden_case();
  nlohmann::json& config = changed["config"];
  if (!config.contains("num_experts_per_tok")) GTEST_SKIP() << "no experts";
  const FamilyCheckpoint family = EveryExpert(&changed);
  if (GgufArchitecture(family).empty()) GTEST_SKIP() << "GGUF has no words for this one";
  const std::string path = folder_.Path("q4.gguf");
  FamilyGguf(family, DType::kQ4_0).Write(path);
  const double products = 4.0 * config["num_hidden_layers"].get<double>() + 1;
  for (const char* kernel : {"avx2", "avx512"}) ExpectNearReference(path, kernel, 2 * products * 6e-5);
}

// F32 weights are multiplied in f32.
TEST_P(Families, OnCudaEqualTransformers) {
  if (const auto ops = MakeOps({.kernel = "cuda"}); !ops.ok()) GTEST_SKIP() << ops.status().message();
  WriteFamilyDirectory(FamilyCheckpoint(golden_case()), DType::kF32, ExpertForm::kSeparate, folder_.path());
  ExpectGolden(golden_case(), folder_.path(), "cuda");
}

// With other weights activations are rounded to bf16: no element is off by more than 2^-8 of it. Else as above.
constexpr double kBf16Error = 0x1p-16;
TEST_P(Families, OnCudaWithEveryExpertAreNearTheReference) {
  if (const auto ops = MakeOps({.kernel = "cuda"}); !ops.ok()) GTEST_SKIP() << ops.status().message();
  nlohmann::json changed = golden_case();
  const FamilyCheckpoint family =
      changed["config"].contains("num_experts_per_tok") ? EveryExpert(&changed) : FamilyCheckpoint(changed);
  const double products = 4.0 * changed["config"]["num_hidden_layers"].get<double>() + 1;
  WriteFamilyDirectory(family, DType::kBF16, ExpertForm::kSeparate, folder_.path());
  ExpectNearReference(folder_.path(), "cuda", 2 * products * kBf16Error);
  if (GgufArchitecture(family).empty()) return;
  FamilyGguf(family, DType::kQ4_0).Write(folder_.Path("q4.gguf"));
  ExpectNearReference(folder_.Path("q4.gguf"), "cuda", 2 * products * kBf16Error);
}

// Samples fork a prompt's pages, a second request finds them again: both say what the first did, and what transformers
// said, past the window too.
TEST(FamiliesWithWindows, ForksAndFoundPrefixesSayTheSame) {
  const TempDir folder;
  int tested = 0;
  for (const nlohmann::json& golden_case : Golden()["cases"]) {
    if (!golden_case["config"].contains("sliding_window")) continue;
    ++tested;
    const std::string name = golden_case["name"], path = folder.Path(name);
    std::filesystem::create_directory(path);
    WriteFamilyDirectory(FamilyCheckpoint(golden_case), DType::kF32, ExpertForm::kSeparate, path);
    for (const char* kernel : {"scalar", "auto"}) {
      const std::unique_ptr<Engine> engine = Load(path, kernel, 33);
      ASSERT_NE(engine, nullptr);
      EXPECT_LT(engine->info().window, static_cast<int32_t>(Golden()["prompt"].size()));
      EXPECT_GT(engine->info().window_layers, 0);
      for (int i = 0; i < 2; ++i) {
        GenerateRequest request;
        request.prompt = Golden()["prompt"].get<std::vector<TokenId>>();
        request.samples = 3;
        request.sampling.temperature = 0;
        request.stopping.output_tokens_max = static_cast<int32_t>(golden_case["runs"][0]["greedy"].size());
        request.stopping.ignore_end_of_sequence = true;
        auto generation = std::make_shared<Generation>();
        ASSERT_OK(engine->Submit(request, generation));
        ASSERT_OK(generation->Wait().status());
        EXPECT_EQ(generation->usage().cached_prompt_tokens > 0, i == 1) << name;
        for (int32_t sample = 0; sample < 3; ++sample) {
          EXPECT_EQ(generation->sample(sample).tokens, golden_case["runs"][0]["greedy"].get<std::vector<TokenId>>())
              << name << " " << kernel << " sample " << sample;
        }
      }
    }
  }
  EXPECT_GE(tested, 3);
}

// Experts as gpt-oss is published, 4-bit floats with a scale per 32; the other kernels round activations to 8 bits.
TEST(FamiliesWithMicroscaledExperts, EqualTransformers) {
  const TempDir folder;
  for (const nlohmann::json& golden_case : Golden()["cases"]) {
    if (golden_case["config"]["model_type"] != "gpt_oss") continue;
    WriteFamilyDirectory(FamilyCheckpoint(golden_case), DType::kBF16, ExpertForm::kMicroscaled, folder.path());
    for (const char* kernel : {"reference", "scalar"}) ExpectGolden(golden_case, folder.path(), kernel);
    EXPECT_EQ(Load(folder.path(), "auto", 128)->info().quantization, "mixed BF16 MXFP4");
  }
}

// The shared folder holds the dense stories260K laid out as mixtures: every expert a quarter of the network with all of
// them chosen, scaled by four, or eight copies of the whole.
TEST(FamiliesFromShared, Stories260KAsAMixtureSaysTheSame) {
  SKIP_WITHOUT_SHARED(golden_path, "data/weights/golden/stories260K.greedy.json");
  const auto golden = nlohmann::json::parse(*ReadFile(golden_path));
  const auto expected = golden["tokens"].get<std::vector<TokenId>>();
  for (const char* name : {"moe4_top4_split", "moe8_top2_identical"}) {
    SKIP_WITHOUT_SHARED(model, std::string("data/weights/stories260K_hf/") + name);
    for (const char* kernel : {"scalar", "auto"}) {
      const std::unique_ptr<Engine> engine = Load(model, kernel, 128);
      ASSERT_NE(engine, nullptr);
      GenerateRequest request;
      request.prompt = {expected[0]};
      request.sampling.temperature = 0;
      request.stopping.output_tokens_max = static_cast<int32_t>(expected.size()) - 1;
      request.stopping.ignore_end_of_sequence = true;
      auto generation = std::make_shared<Generation>();
      ASSERT_OK(engine->Submit(request, generation));
      ASSERT_OK(generation->Wait().status());
      EXPECT_EQ(generation->sample().tokens, std::vector<TokenId>(expected.begin() + 1, expected.end()))
          << name << " " << kernel;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Families, ::testing::Range(size_t{0}, Golden()["cases"].size()), [](const auto& tested) {
  return Golden()["cases"][tested.param]["name"].template get<std::string>();
});

}  // namespace
}  // namespace conclave::engine
