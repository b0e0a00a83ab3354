// SPDX-License-Identifier: Apache-2.0
#include "engine/model/hf_spec.h"

#include <gtest/gtest.h>

#include <map>

#include "common/file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

using Keys = std::map<std::string, std::string>;

// A config of one small Llama with some keys changed; "" takes a key away.
absl::StatusOr<ModelSpec> Read(const Keys& changes) {
  Keys keys = {{"model_type", "\"llama\""},  {"hidden_size", "64"},
               {"intermediate_size", "128"}, {"num_hidden_layers", "3"},
               {"num_attention_heads", "4"}, {"num_key_value_heads", "2"},
               {"vocab_size", "100"},        {"max_position_embeddings", "256"},
               {"rms_norm_eps", "1e-6"}};
  for (const auto& [key, value] : changes) keys[key] = value;
  std::string text;
  for (const auto& [key, value] : keys) {
    if (!value.empty()) text += (text.empty() ? "{\"" : ",\"") + key + "\":" + value;
  }
  const auto document = JsonDocument::Parse("config.json", text + "}");
  if (!document.ok()) return document.status();
  return ReadHfSpec(**document);
}

void ExpectUnknown(const Keys& changes, const std::string& named) {
  EXPECT_THAT(Read(changes).status(),
              StatusIs(absl::StatusCode::kUnimplemented, AllOf(HasSubstr("config.json"), HasSubstr(named))));
}
void ExpectInvalid(const Keys& changes, const std::string& named) {
  EXPECT_THAT(Read(changes).status(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                               AllOf(HasSubstr("MODEL_FILE_INVALID config.json"), HasSubstr(named))));
}

TEST(HfSpec, Llama) {
  const auto spec = Read({});
  ASSERT_OK(spec);
  EXPECT_EQ(spec->family, "llama");
  EXPECT_EQ(spec->layers, 3);
  EXPECT_EQ(spec->head_dim, 16);
  EXPECT_EQ(spec->kv_heads, 2);
  EXPECT_EQ(spec->vocab, 100);
  EXPECT_FLOAT_EQ(spec->norm_epsilon, 1e-6f);
  EXPECT_EQ(spec->rope_layout, RopeLayout::kHalfSplit);
  EXPECT_FALSE(spec->tied_head || spec->attention_bias || spec->head_norm);
  EXPECT_FLOAT_EQ(spec->inverse_frequency[1], 0.31622777f);  // 10000^(-2/16)
  EXPECT_EQ(Read({{"num_key_value_heads", ""}})->kv_heads, 4);
  EXPECT_EQ(Read({{"num_key_value_heads", "null"}})->kv_heads, 4);
  EXPECT_EQ(Read({{"head_dim", "null"}})->head_dim, 16);
  EXPECT_EQ(Read({{"head_dim", "32"}})->head_dim, 32);
  EXPECT_TRUE(Read({{"tie_word_embeddings", "true"}})->tied_head);
  const auto biased = Read({{"attention_bias", "true"}});
  EXPECT_TRUE(biased->attention_bias && biased->attention_out_bias);
  // Keys that the class does not read change nothing.
  EXPECT_OK(Read({{"sliding_window", "16"}, {"unsloth_version", "\"1\""}}));
}

TEST(HfSpec, OtherFamilies) {
  const auto qwen2 = Read({{"model_type", "\"qwen2\""}, {"rope_theta", "1000000"}});
  ASSERT_OK(qwen2);
  EXPECT_TRUE(qwen2->attention_bias);
  EXPECT_FALSE(qwen2->attention_out_bias || qwen2->head_norm);
  EXPECT_FLOAT_EQ(qwen2->inverse_frequency[4], 1e-3f);
  const auto qwen3 = Read({{"model_type", "\"qwen3\""}});
  ASSERT_OK(qwen3);
  EXPECT_TRUE(qwen3->head_norm);
  EXPECT_FALSE(qwen3->attention_bias);
  EXPECT_EQ(qwen3->head_dim, 128);
  EXPECT_OK(Read({{"model_type", "\"mistral\""}}));
  ExpectInvalid({{"model_type", "\"mistral\""}, {"num_key_value_heads", ""}}, "num_key_value_heads");
}

TEST(HfSpec, RopeInBothForms) {
  const std::string llama3 = R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,)"
                             R"("original_max_position_embeddings":128)";
  const auto older = Read({{"rope_theta", "500000.0"}, {"rope_scaling", llama3 + "}"}});
  const auto newer = Read({{"rope_parameters", llama3 + R"(,"rope_theta":500000.0})"}});
  ASSERT_OK(older);
  ASSERT_OK(newer);
  EXPECT_EQ(older->inverse_frequency, newer->inverse_frequency);
  EXPECT_FLOAT_EQ(older->inverse_frequency[0], 1.0f);
  EXPECT_FLOAT_EQ(older->inverse_frequency[7], static_cast<float>(std::pow(500000.0, -14.0 / 16) / 8));
  EXPECT_EQ(older->context_tokens, 256);
  const auto linear = Read({{"rope_scaling", R"({"type":"linear","factor":2})"}});
  ASSERT_OK(linear);
  EXPECT_FLOAT_EQ(linear->inverse_frequency[0], 0.5f);
  // YaRN reaches factor times the original context, which is max_position_embeddings where it is not given.
  const auto yarn = Read({{"rope_scaling", R"({"type":"yarn","factor":4.0})"}});
  ASSERT_OK(yarn);
  EXPECT_EQ(yarn->context_tokens, 1024);
  EXPECT_FLOAT_EQ(yarn->rope_magnitude, static_cast<float>(0.1 * std::log(4.0) + 1));
}

TEST(HfSpec, WhatIsNotKnownIsNamed) {
  ExpectUnknown({{"model_type", "\"mamba2\""}}, "\"mamba2\"");
  ExpectUnknown({{"hidden_act", "\"gelu\""}}, "\"gelu\"");
  ExpectUnknown({{"rope_scaling", R"({"rope_type":"longrope","factor":2})"}}, "\"longrope\"");
  ExpectUnknown({{"rope_scaling", R"({"type":"dynamic","factor":2})"}}, "\"dynamic\"");
  ExpectUnknown({{"partial_rotary_factor", "0.5"}}, "partial_rotary_factor");
  ExpectUnknown({{"mlp_bias", "true"}}, "mlp_bias");
  ExpectUnknown({{"architectures", R"(["LlamaForSequenceClassification"])"}}, "LlamaForSequenceClassification");
}

// A way of quantising that is not known is refused when weights are to be loaded, not when their size is asked for.
TEST(HfSpec, QuantizedWeights) {
  testing::TempDir dir;
  const std::string path = dir.Path("config.json");
  const auto config = [&](std::string_view method) {
    std::string text = *ReadFile(std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/hf/qwen3/config.json");
    text.insert(text.find('{') + 1, fmt::format(R"("quantization_config":{{"quant_method":"{}","bits":4}},)", method));
    EXPECT_OK(WriteFileAtomically(path, text));
    EXPECT_OK(ReadHfSpec(**JsonDocument::Parse("config.json", text)));
    return ReadHfSpec(HfDirectory(dir.path()));
  };
  EXPECT_THAT(config("hqq").status(),
              StatusIs(absl::StatusCode::kUnimplemented, AllOf(HasSubstr("config.json"), HasSubstr("\"hqq\""))));
  const auto known = config("gptq");
  ASSERT_OK(known);
  EXPECT_EQ(known->quantization.storage, QuantStorage::kGptq);
}

TEST(HfSpec, SlidingWindows) {
  const auto windows = [](const std::string& type, Keys changes) {
    changes["model_type"] = '"' + type + '"';
    const auto spec = Read(changes);
    EXPECT_OK(spec);
    if (!spec.ok()) return std::vector<int32_t>{};
    EXPECT_EQ(spec->window == 0, spec->num_window_layers() == 0);
    return std::vector<int32_t>{spec->LayerWindow(0), spec->LayerWindow(1), spec->LayerWindow(2)};
  };
  using Windows = std::vector<int32_t>;
  const Windows none = {0, 0, 0};
  EXPECT_EQ(windows("llama", {{"sliding_window", "16"}}), none);  // a key that the class does not read
  EXPECT_EQ(windows("mistral", {{"sliding_window", "255"}}), (Windows{255, 255, 255}));
  EXPECT_EQ(windows("mistral", {{"sliding_window", "256"}}), none);  // as long as the context
  EXPECT_EQ(windows("mistral", {{"sliding_window", "null"}}), none);
  EXPECT_EQ(windows("mistral", {}), none);  // 4096, longer than the context
  EXPECT_EQ(windows("mistral", {{"max_position_embeddings", "4097"}}), (Windows{4096, 4096, 4096}));
  const Keys on = {{"sliding_window", "16"}, {"use_sliding_window", "true"}};
  const auto also = [&on](std::string key, std::string value) {
    Keys keys = on;
    keys[std::move(key)] = std::move(value);
    return keys;
  };
  for (const char* type : {"qwen2", "qwen3"}) {
    EXPECT_EQ(windows(type, {{"sliding_window", "16"}}), none);
    EXPECT_EQ(windows(type, on), none);  // max_window_layers is 28 where it is not given
    EXPECT_EQ(windows(type, also("max_window_layers", "2")), (Windows{0, 0, 16}));
    EXPECT_EQ(windows(type, also("max_window_layers", "3")), none);
    EXPECT_EQ(windows(type, also("layer_types", R"(["sliding_attention","full_attention","full_attention"])")),
              (Windows{16, 0, 0}));
  }
  ExpectInvalid({{"model_type", "\"mistral\""}, {"sliding_window", "0"}}, "sliding_window");
  Keys listed = also("layer_types", R"(["full_attention","full_attention"])");
  listed["model_type"] = "\"qwen2\"";
  ExpectInvalid(listed, "2 entries for 3 layers");
  listed["layer_types"] = R"(["full_attention","full_attention","chunked_attention"])";
  ExpectUnknown(listed, "\"layer_types[2]\" is \"chunked_attention\"");
  const Keys mixture = {{"num_experts", "4"},           {"num_experts_per_tok", "2"},
                        {"moe_intermediate_size", "8"}, {"shared_expert_intermediate_size", "8"},
                        {"sliding_window", "16"},       {"use_sliding_window", "true"}};
  EXPECT_EQ(windows("qwen2_moe", mixture), (Windows{16, 0, 16}));
  EXPECT_EQ(windows("qwen3_moe", mixture), (Windows{16, 16, 16}));
}

TEST(HfSpec, GptOss) {
  const Keys keys = {
      {"model_type", "\"gpt_oss\""}, {"num_local_experts", "8"},
      {"num_experts_per_tok", "2"},  {"sliding_window", "16"},
      {"rope_theta", "150000"},      {"rope_scaling", R"({"rope_type":"yarn","factor":2,"truncate":false})"}};
  const auto spec = Read(keys);
  ASSERT_OK(spec);
  EXPECT_EQ(spec->head_dim, 64);
  EXPECT_TRUE(spec->attention_bias && spec->attention_out_bias && spec->attention_sinks);
  EXPECT_TRUE(spec->experts->biases && spec->experts->router.normalise);
  EXPECT_EQ(spec->experts->activation.limit, 7.0f);
  EXPECT_EQ((std::vector<int32_t>{spec->LayerWindow(0), spec->LayerWindow(1), spec->LayerWindow(2)}),
            (std::vector<int32_t>{16, 0, 16}));
  const auto with = [&keys](const std::string& key, const std::string& value) {
    Keys changed = keys;
    changed[key] = value;
    return changed;
  };
  EXPECT_EQ(Read(with("layer_types", R"(["full_attention","full_attention","sliding_attention"])"))->LayerWindow(2),
            16);
  EXPECT_EQ(Read(with("layer_types", R"(["full_attention","full_attention","full_attention"])"))->window, 0);
  EXPECT_EQ(Read(with("sliding_window", ""))->window, 128);
  EXPECT_EQ(Read(with("sliding_window", "null"))->window, 0);
  EXPECT_FALSE(Read(with("attention_bias", "false"))->attention_bias);
  EXPECT_OK(Read(with("swiglu_limit", "7.0")));
  ExpectUnknown(with("swiglu_limit", "6.5"), "\"swiglu_limit\" is 6.5");
  ExpectInvalid(with("rope_scaling", ""), "rope_scaling");
  ExpectInvalid(with("rope_theta", ""), "rope_theta");
}

TEST(HfSpec, ImpossibleValues) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
                          "max_position_embeddings", "rms_norm_eps", "model_type"}) {
    ExpectInvalid({{key, ""}}, key);
    ExpectInvalid({{key, "null"}}, key);
    ExpectInvalid({{key, "[]"}}, key);
  }
  EXPECT_OK(Read({{"num_hidden_layers", std::to_string(kLayersMax)}}));
  ExpectInvalid({{"num_hidden_layers", std::to_string(kLayersMax + 1)}}, "num_hidden_layers");
  ExpectInvalid({{"num_hidden_layers", "0"}}, "num_hidden_layers");
  ExpectInvalid({{"num_key_value_heads", "3"}}, "evenly");
  ExpectInvalid({{"hidden_size", "66"}}, "head_dim");
  ExpectInvalid({{"head_dim", "15"}}, "odd");
  ExpectInvalid({{"rms_norm_eps", "0"}}, "rms_norm_eps");
  ExpectInvalid({{"rope_theta", "-1"}}, "rope_theta");
  ExpectInvalid({{"rope_theta", "\"x\""}}, "rope_theta");
  ExpectInvalid({{"rope_scaling", R"({"type":"linear"})"}}, "factor");
  ExpectInvalid({{"rope_scaling", R"({"type":"yarn","factor":0})"}}, "rope_scaling.factor");
  ExpectInvalid({{"rope_scaling", "3"}}, "rope_scaling");
  ExpectInvalid({{"tie_word_embeddings", "1"}}, "tie_word_embeddings");
}

}  // namespace
}  // namespace conclave::engine
