// SPDX-License-Identifier: Apache-2.0
// What a config.json alone tells: equal to what the loaded model counts, and to what the models' authors publish.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/file.h"
#include "engine/engine.h"
#include "tests/golden/family_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"

namespace conclave::engine {
namespace {

using testing::ExpertForm;
using testing::FamilyCheckpoint;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempDir;

// Of ranks, too; or it says the same of why there cannot be any.
void ExpectRankPlan(const std::string& config_path, EngineOptions options) {
  options.ranks = 2;
  const auto engine = Engine::Create(options);
  const auto plan = PlanRank(config_path, 32, 2);
  ASSERT_EQ(plan.status(), engine.status());
  if (!plan.ok()) return;
  const MemoryPlan& memory = (*engine)->memory();
  EXPECT_EQ(plan->weight_bytes, memory.ranks[0].weight_bytes);
  EXPECT_EQ(2 * plan->kv_bytes_per_token * memory.kv_pages * memory.page_tokens, memory.ranks[0].kv_bytes);
}

TEST(Plan, EqualsTheLoadedModel) {
  const auto golden = nlohmann::json::parse(*ReadFile(CONCLAVE_SOURCE_DIR "/tests/golden/families.json"));
  for (const auto& golden_case : golden["cases"]) {
    SCOPED_TRACE(golden_case["name"]);
    const TempDir folder;
    WriteFamilyDirectory(FamilyCheckpoint(golden_case), DType::kF32, ExpertForm::kSeparate, folder.Path(""));
    EngineOptions options;
    options.model_path = folder.Path("");
    options.tokenizer_optional = true;
    options.kernel = "reference";
    options.kv_bytes = 4 << 20;
    const auto engine = Engine::Create(options);
    ASSERT_OK(engine);
    const auto plan = PlanModel(folder.Path("config.json"), 32);
    ASSERT_OK(plan);
    const ModelInfo& loaded = (*engine)->info();
    EXPECT_EQ(plan->params_total, loaded.params_total);
    EXPECT_EQ(plan->params_active, loaded.params_active);
    EXPECT_EQ(plan->flops_per_token, loaded.flops_per_token);
    EXPECT_EQ(plan->attention_flops_per_token_and_position, loaded.attention_flops_per_token_and_position);
    EXPECT_EQ(plan->head_flops_per_token, loaded.head_flops_per_token);
    EXPECT_EQ(plan->head_flops_per_token, int64_t{2} * plan->vocab * plan->hidden);
    EXPECT_EQ(PlanModel(folder.path())->flops_per_token, plan->flops_per_token) << "of the directory";
    EXPECT_EQ(plan->weight_bytes, loaded.weight_bytes);
    EXPECT_EQ(plan->weight_bytes_per_token, loaded.weight_bytes_per_token);
    EXPECT_EQ(2 * plan->kv_bytes_per_token, loaded.kv_bytes_per_token) << "the reference keeps floats";
    ExpectRankPlan(folder.Path("config.json"), options);
  }
}

TEST(Plan, OfAGgufFileEqualsWhatIsLoaded) {
  const TempDir folder;
  testing::TinyModel().Write(folder.Path("tiny.gguf"));
  EngineOptions options;
  options.model_path = folder.Path("tiny.gguf");
  options.kernel = "scalar";
  options.kv_bytes = 4 << 20;
  const auto engine = Engine::Create(options);
  ASSERT_OK(engine);
  const auto plan = PlanModel(options.model_path);
  ASSERT_OK(plan);
  const ModelInfo& loaded = (*engine)->info();
  EXPECT_EQ(plan->params_total, loaded.params_total);
  EXPECT_EQ(plan->params_active, loaded.params_active);
  EXPECT_EQ(plan->flops_per_token, loaded.flops_per_token);
  EXPECT_EQ(plan->head_flops_per_token, loaded.head_flops_per_token);
  EXPECT_EQ(plan->attention_flops_per_token_and_position, loaded.attention_flops_per_token_and_position);
  EXPECT_NEAR(static_cast<double>(plan->weight_bytes), static_cast<double>(loaded.weight_bytes),
              0.01 * static_cast<double>(loaded.weight_bytes));
  EXPECT_THAT(PlanModel(folder.Path("absent.gguf")), StatusIs(absl::StatusCode::kNotFound));
}

// Configurations, parameters (in thousand millions) and KV bytes of a token (in halves, by the formula of
// specs/kernels.md) as published.
nlohmann::json PublishedModel(const std::string& name) {
  for (const auto& model :
       nlohmann::json::parse(*ReadFile(CONCLAVE_SOURCE_DIR "/tests/golden/published_models.json"))) {
    if (model["name"] == name) return model;
  }
  ADD_FAILURE() << name;
  return {};
}

ModelInfo PlanOf(const nlohmann::json& model, std::optional<double> bits) {
  const TempDir folder;
  std::ofstream(folder.Path("config.json")) << model["config"];
  const auto plan = PlanModel(folder.Path("config.json"), bits);
  EXPECT_OK(plan);
  return plan.ok() ? *plan : ModelInfo{};
}

// Active counts are given with one digit or none, and whether they count the embedding differs: half a thousand million
// either way.
TEST(Plan, EqualsWhatIsPublished) {
  for (const char* name : {"Qwen3-32B", "Mixtral-8x7B", "Qwen3-30B-A3B", "OLMoE-1B-7B", "DeepSeek-V2-Lite",
                           "DeepSeek-V2", "DeepSeek-V3"}) {
    const nlohmann::json model = PublishedModel(name);
    const ModelInfo plan = PlanOf(model, 16);
    const double total = model["total"];
    EXPECT_NEAR(static_cast<double>(plan.params_total) * 1e-9, total, total < 100 ? 0.06 : 0.6) << name;
    EXPECT_NEAR(static_cast<double>(plan.params_active) * 1e-9, model["active"].get<double>(), 0.75) << name;
    EXPECT_EQ(plan.kv_bytes_per_token, model["kv_bytes"].get<int64_t>()) << name;
    EXPECT_EQ(plan.weight_bytes, 2 * plan.params_total);
  }
}

// A quantised model's plan takes the width from config.json: the bytes of the loaded file but for what is not counted,
// scales of whole rows and index lists, which in matrices of 64 columns are up to a tenth.
TEST(Plan, QuantisedConfigsGiveTheirOwnWidth) {
  const std::string folder = CONCLAVE_SOURCE_DIR "/tests/golden/quantized/";
  for (const char* name : {"awq", "awq_moe", "gptq_sym", "gptq_v2", "gptq_8bit", "fp8_tensor", "packed", "packed_asym",
                           "packed_8bit", "packed_experts"}) {
    SCOPED_TRACE(name);
    EngineOptions options;
    options.model_path = folder + name;
    options.tokenizer_optional = true;
    options.kernel = "reference";
    options.kv_bytes = 4 << 20;
    const auto engine = Engine::Create(options);
    ASSERT_OK(engine);
    const auto plan = PlanModel(folder + name + "/config.json"), wide = PlanModel(folder + name + "/config.json", 16);
    ASSERT_OK(plan);
    ASSERT_OK(wide);
    const auto loaded = static_cast<double>((*engine)->info().weight_bytes);
    EXPECT_NEAR(static_cast<double>(plan->weight_bytes), loaded, 0.1 * loaded);
    EXPECT_GT(static_cast<double>(wide->weight_bytes), 1.2 * loaded);
    EXPECT_EQ(plan->params_total, wide->params_total);
  }
}

// Qwen3-32B over four devices by hand: a quarter of everything but the embedding and the norms. DeepSeek-V3's latent is
// on every device, so its cache does not shrink.
TEST(Plan, OfRanks) {
  const TempDir folder;
  const auto plan = [&](const char* name, int32_t ranks) {
    std::ofstream(folder.Path("config.json")) << PublishedModel(name)["config"];
    return PlanRank(folder.Path("config.json"), 16, ranks);
  };
  const ModelInfo qwen = PlanOf(PublishedModel("Qwen3-32B"), 16);
  const auto quarter = plan("Qwen3-32B", 4);
  ASSERT_OK(quarter);
  const int64_t D = qwen.hidden, norms = qwen.layers * (2 * D + 2 * qwen.head_dim) + D;
  const int64_t replicated = qwen.vocab * D + norms;
  EXPECT_EQ(quarter->weight_bytes, 2 * (replicated + (qwen.params_total - replicated) / 4));
  EXPECT_EQ(quarter->kv_bytes_per_token, qwen.kv_bytes_per_token / 4);
  const auto eighth = plan("DeepSeek-V3", 8);
  ASSERT_OK(eighth);
  EXPECT_EQ(eighth->kv_bytes_per_token, PlanOf(PublishedModel("DeepSeek-V3"), 16).kv_bytes_per_token);
  EXPECT_THAT(plan("Qwen3-32B", 20).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("64 attention heads")));
}

// DeepSeek-V3's config as published says FP8, which all but embedding, head, norms and routers are in: the sum of both.
TEST(Plan, DeepSeekV3TakesWhatItsConfigSays) {
  nlohmann::json model = PublishedModel("DeepSeek-V3");
  model["config"]["quantization_config"] = {
      {"quant_method", "fp8"}, {"activation_scheme", "dynamic"}, {"fmt", "e4m3"}, {"weight_block_size", {128, 128}}};
  model["config"]["torch_dtype"] = "bfloat16";
  const ModelInfo plan = PlanOf(model, std::nullopt);
  const double embeddings = 2.0 * 129280 * 7168, routers = 58.0 * 257 * 7168;
  EXPECT_NEAR(static_cast<double>(plan.weight_bytes), static_cast<double>(plan.params_total) + embeddings + routers,
              2e6);
  model["config"]["torch_dtype"] = "float8";
  const TempDir folder;
  std::ofstream(folder.Path("config.json")) << model["config"];
  EXPECT_THAT(PlanModel(folder.Path("config.json")),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("\"torch_dtype\" is \"float8\"")));
}

// What the question of this project needs at its real size, from two config.json: twenty dense models of 32B in bf16
// and one DeepSeek-V3 in FP8.
TEST(Plan, TwentyDenseModelsAndOneMixture) {
  const ModelInfo dense = PlanOf(PublishedModel("Qwen3-32B"), 16), mixture = PlanOf(PublishedModel("DeepSeek-V3"), 8);
  EXPECT_NEAR(static_cast<double>(dense.weight_bytes) * 1e-9, 2 * 32.76, 0.1);
  EXPECT_NEAR(static_cast<double>(mixture.weight_bytes) * 1e-9, 671, 0.6);
  // Two operations for each parameter that a token meets; the embedding of 0.78 is looked up.
  EXPECT_NEAR(static_cast<double>(dense.flops_per_token) * 1e-9, 2 * (32.76 - 0.78), 0.2);
  EXPECT_NEAR(static_cast<double>(mixture.flops_per_token) * 1e-9, 2 * 37, 2.5);
}

// Both config.json as published, and the sizes of the model card (arXiv 2508.10925, table 1), which counts the output
// head but not the embedding among the active parameters.
TEST(Plan, GptOssIsAsPublished) {
  struct Published {
    int32_t layers, experts;
    double total, active;  // 10^9
  };
  const TempDir folder;
  for (const Published& model : {Published{24, 32, 20.91, 3.61}, Published{36, 128, 116.83, 5.13}}) {
    nlohmann::json config = {{"architectures", {"GptOssForCausalLM"}},
                             {"attention_bias", true},
                             {"eos_token_id", 200002},
                             {"experts_per_token", 4},
                             {"head_dim", 64},
                             {"hidden_act", "silu"},
                             {"hidden_size", 2880},
                             {"initial_context_length", 4096},
                             {"intermediate_size", 2880},
                             {"max_position_embeddings", 131072},
                             {"model_type", "gpt_oss"},
                             {"num_attention_heads", 64},
                             {"num_experts_per_tok", 4},
                             {"num_hidden_layers", model.layers},
                             {"num_key_value_heads", 8},
                             {"num_local_experts", model.experts},
                             {"quantization_config", {{"quant_method", "mxfp4"}}},
                             {"rms_norm_eps", 1e-05},
                             {"rope_theta", 150000},
                             {"sliding_window", 128},
                             {"swiglu_limit", 7.0},
                             {"tie_word_embeddings", false},
                             {"vocab_size", 201088}};
    config["rope_scaling"] = {{"beta_fast", 32.0},   {"beta_slow", 1.0},  {"factor", 32.0},
                              {"rope_type", "yarn"}, {"truncate", false}, {"original_max_position_embeddings", 4096}};
    config["quantization_config"]["modules_to_not_convert"] = {"model.layers.*.self_attn", "model.layers.*.mlp.router",
                                                               "model.embed_tokens", "lm_head"};
    for (int32_t i = 0; i < model.layers; ++i) {
      config["layer_types"].push_back(i % 2 == 0 ? "sliding_attention" : "full_attention");
    }
    std::ofstream(folder.Path("config.json")) << config;
    const auto plan = PlanModel(folder.Path("config.json"), 16);
    ASSERT_OK(plan);
    const int64_t embedding = int64_t{201088} * 2880;
    EXPECT_NEAR(static_cast<double>(plan->params_total) * 1e-9, model.total, 0.01);
    EXPECT_NEAR(static_cast<double>(plan->params_active - embedding) * 1e-9, model.active, 0.01);
    EXPECT_EQ(plan->kv_bytes_per_token, model.layers * 2 * 8 * 64 * 2);
    EXPECT_EQ(plan->window, 128);
    EXPECT_EQ(plan->window_layers, model.layers / 2);
    EXPECT_EQ(plan->context_tokens, 131072);
  }
}

TEST(Plan, ErrorsNameWhatIsWrong) {
  const TempDir folder;
  EXPECT_THAT(PlanModel(folder.Path("none.json"), 16), StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.json")));
  std::ofstream(folder.Path("config.json")) << R"({"model_type": "mamba"})";
  EXPECT_THAT(PlanModel(folder.Path("config.json"), 16),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("\"mamba\"")));
  for (const double bits : {0.0, -1.0, 64.1}) {
    EXPECT_THAT(PlanModel(folder.Path("config.json"), bits),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bits per weight")));
  }
}

}  // namespace
}  // namespace conclave::engine
