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

namespace conclave::engine {
namespace {

using testing::ExpertForm;
using testing::FamilyCheckpoint;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempDir;

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
    EXPECT_EQ(plan->weight_bytes, loaded.weight_bytes);
    EXPECT_EQ(plan->weight_bytes_per_token, loaded.weight_bytes_per_token);
    EXPECT_EQ(2 * plan->kv_bytes_per_token, loaded.kv_bytes_per_token) << "the reference keeps floats";
  }
}

struct Published {
  const char* name;
  double total, active;  // thousand millions
  int64_t kv_bytes;      // of a token, in halves, by the formula of specs/kernels.md
  nlohmann::json config;
};

// Configurations and counts as published. Active counts are given with one digit or none, and whether they count the
// embedding differs: half a thousand million either way.
TEST(Plan, EqualsWhatIsPublished) {
  const nlohmann::json common = {{"rms_norm_eps", 1e-6}, {"max_position_embeddings", 4096}};
  const Published models[] = {
      {"Mixtral-8x7B",
       46.7,
       12.9,
       2 * 32 * 8 * 128 * 2,
       {{"model_type", "mixtral"},
        {"hidden_size", 4096},
        {"intermediate_size", 14336},
        {"num_hidden_layers", 32},
        {"num_attention_heads", 32},
        {"num_key_value_heads", 8},
        {"num_local_experts", 8},
        {"num_experts_per_tok", 2},
        {"vocab_size", 32000}}},
      {"Qwen3-30B-A3B",
       30.5,
       3.3,
       2 * 48 * 4 * 128 * 2,
       {{"model_type", "qwen3_moe"},
        {"hidden_size", 2048},
        {"intermediate_size", 6144},
        {"num_hidden_layers", 48},
        {"num_attention_heads", 32},
        {"num_key_value_heads", 4},
        {"head_dim", 128},
        {"num_experts", 128},
        {"num_experts_per_tok", 8},
        {"moe_intermediate_size", 768},
        {"vocab_size", 151936}}},
      {"OLMoE-1B-7B",
       6.9,
       1.3,
       2 * 16 * 16 * 128 * 2,
       {{"model_type", "olmoe"},
        {"hidden_size", 2048},
        {"intermediate_size", 1024},
        {"num_hidden_layers", 16},
        {"num_attention_heads", 16},
        {"num_key_value_heads", 16},
        {"num_experts", 64},
        {"num_experts_per_tok", 8},
        {"vocab_size", 50304}}},
      {"DeepSeek-V2-Lite",
       15.7,
       2.4,
       27 * 576 * 2,
       {{"model_type", "deepseek_v2"},
        {"hidden_size", 2048},
        {"intermediate_size", 10944},
        {"num_hidden_layers", 27},
        {"num_attention_heads", 16},
        {"n_routed_experts", 64},
        {"n_shared_experts", 2},
        {"num_experts_per_tok", 6},
        {"moe_intermediate_size", 1408},
        {"first_k_dense_replace", 1},
        {"kv_lora_rank", 512},
        {"qk_nope_head_dim", 128},
        {"qk_rope_head_dim", 64},
        {"v_head_dim", 128},
        {"vocab_size", 102400}}},
      {"DeepSeek-V2",
       236,
       21,
       60 * 576 * 2,
       {{"model_type", "deepseek_v2"},
        {"hidden_size", 5120},
        {"intermediate_size", 12288},
        {"num_hidden_layers", 60},
        {"num_attention_heads", 128},
        {"n_routed_experts", 160},
        {"n_shared_experts", 2},
        {"num_experts_per_tok", 6},
        {"moe_intermediate_size", 1536},
        {"first_k_dense_replace", 1},
        {"q_lora_rank", 1536},
        {"kv_lora_rank", 512},
        {"qk_nope_head_dim", 128},
        {"qk_rope_head_dim", 64},
        {"v_head_dim", 128},
        {"vocab_size", 102400}}},
      {"DeepSeek-V3",
       671,
       37,
       61 * 576 * 2,
       {{"model_type", "deepseek_v3"},
        {"hidden_size", 7168},
        {"intermediate_size", 18432},
        {"num_hidden_layers", 61},
        {"num_attention_heads", 128},
        {"n_routed_experts", 256},
        {"n_shared_experts", 1},
        {"num_experts_per_tok", 8},
        {"moe_intermediate_size", 2048},
        {"first_k_dense_replace", 3},
        {"q_lora_rank", 1536},
        {"kv_lora_rank", 512},
        {"qk_nope_head_dim", 128},
        {"qk_rope_head_dim", 64},
        {"v_head_dim", 128},
        {"n_group", 8},
        {"topk_group", 4},
        {"routed_scaling_factor", 2.5},
        {"vocab_size", 129280}}},
  };
  const TempDir folder;
  for (const Published& model : models) {
    nlohmann::json config = common;
    config.update(model.config);
    std::ofstream(folder.Path("config.json")) << config;
    const auto plan = PlanModel(folder.Path("config.json"), 16);
    ASSERT_OK(plan);
    EXPECT_NEAR(static_cast<double>(plan->params_total) * 1e-9, model.total, model.total < 100 ? 0.06 : 0.6)
        << model.name;
    EXPECT_NEAR(static_cast<double>(plan->params_active) * 1e-9, model.active, 0.75) << model.name;
    EXPECT_EQ(plan->kv_bytes_per_token, model.kv_bytes) << model.name;
    EXPECT_EQ(plan->weight_bytes, 2 * plan->params_total);
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
