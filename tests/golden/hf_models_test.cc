// SPDX-License-Identifier: Apache-2.0
// Tiny random checkpoints in safetensors (make_hf_models.py) against transformers in float64: logits of every position,
// greedy tokens, in one piece and across pages, and the same weights as stories260K in GGUF.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>

#include "common/file.h"
#include "common/status.h"
#include "engine/engine.h"
#include "engine/format/checkpoint.h"
#include "engine/quant/codec.h"
#include "tests/testing/generation.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using testing::Greedy;

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

// The same weights as a GGUF file of the family's architecture. Llama's stores q and k with the halves of each head
// interleaved, and Llama 3's scaling as divisors.
class DenseGguf {
 public:
  // Matrices are encoded in `matrices`; `decoded`: what that made of them is written as F32.
  explicit DenseGguf(const std::string& name, DType matrices = DType::kF32, bool decoded = false)
      : config_(nlohmann::json::parse(*ReadFile(kGolden + name + "/config.json"))),
        matrices_(matrices),
        decoded_(decoded) {
    const auto type = config_["model_type"].get<std::string>();
    arch_ = type == "mistral" ? "llama" : type;
    checkpoint_ = *Checkpoint::Open(kGolden + name);
  }

  void Write(const std::string& path) {
    w_.Add("general.architecture", arch_);
    const int heads = config_["num_attention_heads"], hidden = config_["hidden_size"];
    const int head_dim =
        config_.value("head_dim", nlohmann::json()).is_number() ? config_["head_dim"].get<int>() : hidden / heads;
    Number("block_count", config_["num_hidden_layers"]);
    Number("context_length", 256);
    Number("embedding_length", hidden);
    Number("feed_forward_length", config_["intermediate_size"]);
    Number("attention.head_count", heads);
    Number("attention.head_count_kv", config_["num_key_value_heads"]);
    Number("attention.key_length", head_dim);
    Number("attention.value_length", head_dim);
    w_.Add(arch_ + ".attention.layer_norm_rms_epsilon", config_["rms_norm_eps"].get<float>());
    Rope(head_dim);
    Vocabulary();
    for (const CheckpointTensor& tensor : checkpoint_->tensors()) Tensor(tensor, head_dim);
    w_.Write(path);
  }

 private:
  void Number(const std::string& key, int value) { w_.Add(arch_ + "." + key, static_cast<uint32_t>(value)); }

  void Rope(int head_dim) {
    const auto& rope = config_["rope_parameters"];
    const double base = rope["rope_theta"];
    w_.Add(arch_ + ".rope.freq_base", static_cast<float>(base));
    const auto type = rope["rope_type"].get<std::string>();
    if (type == "linear" || type == "yarn") {
      w_.Add(arch_ + ".rope.scaling.type", type);
      w_.Add(arch_ + ".rope.scaling.factor", rope["factor"].get<float>());
    }
    if (type == "yarn") Number("rope.scaling.original_context_length", rope["original_max_position_embeddings"]);
    if (type != "llama3") return;
    std::vector<float> divisors;
    for (int i = 0; i < head_dim / 2; ++i) {
      const double wave = 2 * std::numbers::pi * std::pow(base, 2.0 * i / head_dim);
      const double turns = rope["original_max_position_embeddings"].get<double>() / wave;
      const double low = rope["low_freq_factor"], high = rope["high_freq_factor"], factor = rope["factor"];
      const double smooth = std::clamp((turns - low) / (high - low), 0.0, 1.0);
      divisors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
    }
    w_.AddTensor("rope_freqs.weight", Shape{head_dim / 2}, divisors);
  }

  void Vocabulary() {
    std::vector<std::string> tokens;
    for (int i = 0; i < 96; ++i) tokens.push_back("<" + std::to_string(i) + ">");
    w_.Add("tokenizer.ggml.model", "gpt2").Add("tokenizer.ggml.pre", "gpt-2").AddArray("tokenizer.ggml.tokens", tokens);
    w_.AddArray("tokenizer.ggml.token_type", std::vector<int32_t>(96, 3));
    w_.AddArray("tokenizer.ggml.merges", std::vector<std::string>{});
  }

  void Tensor(const CheckpointTensor& tensor, int head_dim) {
    static const std::map<std::string, std::string> names = {{"model.embed_tokens", "token_embd"},
                                                             {"model.norm", "output_norm"},
                                                             {"lm_head", "output"},
                                                             {"input_layernorm", "attn_norm"},
                                                             {"post_attention_layernorm", "ffn_norm"},
                                                             {"self_attn.q_proj", "attn_q"},
                                                             {"self_attn.k_proj", "attn_k"},
                                                             {"self_attn.v_proj", "attn_v"},
                                                             {"self_attn.o_proj", "attn_output"},
                                                             {"self_attn.q_norm", "attn_q_norm"},
                                                             {"self_attn.k_norm", "attn_k_norm"},
                                                             {"mlp.gate_proj", "ffn_gate"},
                                                             {"mlp.up_proj", "ffn_up"},
                                                             {"mlp.down_proj", "ffn_down"}};
    std::string name(tensor.name);
    const std::string ending = name.substr(name.rfind('.'));
    std::string prefix, stem = name.substr(0, name.size() - ending.size());
    if (stem.starts_with("model.layers.")) {
      const size_t dot = stem.find('.', 13);
      prefix = "blk." + stem.substr(13, dot - 13) + ".";
      stem = stem.substr(dot + 1);
    }
    const int64_t columns = tensor.shape.rank() == 2 ? tensor.shape[1] : 1;
    std::vector<float> values(tensor.shape.elements());
    quant::DecodeRow(tensor.dtype, tensor.bytes.data(), values);
    if (arch_ == "llama" && (stem == "self_attn.q_proj" || stem == "self_attn.k_proj")) {
      const std::vector<float> halves = values;
      for (int64_t row = 0; row < tensor.shape[0]; ++row) {
        const int64_t d = row % head_dim, from = row - d + d / 2 + (d % 2) * head_dim / 2;
        std::copy_n(halves.begin() + from * columns, columns, values.begin() + row * columns);
      }
    }
    if (tensor.shape.rank() == 2) return Matrix(prefix + names.at(stem) + ending, tensor.shape, std::move(values));
    w_.AddTensor(prefix + names.at(stem) + ending, tensor.shape, values);
  }

  void Matrix(const std::string& name, const Shape& shape, std::vector<float> values) {
    const int64_t row_bytes = RowBytes(matrices_, shape[1]);
    std::string bytes(shape[0] * row_bytes, '\0');
    for (int64_t n = 0; n < shape[0]; ++n) {
      const auto row = std::span(values).subspan(n * shape[1], shape[1]);
      auto* encoded = reinterpret_cast<std::byte*>(bytes.data() + n * row_bytes);
      quant::EncodeRow(matrices_, row, encoded);
      quant::DecodeRow(matrices_, encoded, row);
    }
    decoded_ ? w_.AddTensor(name, shape, values) : w_.AddTensor(name, matrices_, shape, bytes);
  }

  const nlohmann::json config_;
  const DType matrices_;
  const bool decoded_;
  std::string arch_;
  std::unique_ptr<Checkpoint> checkpoint_;
  testing::GgufWriter w_;
};

TEST_P(HfModels, GgufOfTheSameWeights) {
  const auto& [name, kernel] = GetParam();
  testing::TempDir dir;
  DenseGguf(name).Write(dir.Path("m.gguf"));
  const auto golden = nlohmann::json::parse(*ReadFile(kGolden + name + "/golden.json"));
  const std::unique_ptr<Engine> engine = Load(dir.Path("m.gguf"), kernel);
  ASSERT_NE(engine, nullptr);
  const auto prompt = golden["prompt"].get<std::vector<TokenId>>();
  std::vector<float> logits;
  ASSERT_OK(engine->Logits(prompt, &logits));
  double worst = 0;
  size_t i = 0;
  for (const auto& row : golden["logits"]) {
    for (const auto& logit : row) worst = std::max(worst, std::abs(logits.at(i++) - logit.get<double>()));
  }
  EXPECT_LT(worst, 1e-3);
}

// Blocks of 32 fit the rows of these small models: the engine on them is the float64 engine on the numbers they hold.
TEST_P(HfModels, QuantisedGgufEqualsItsDecodedWeights) {
  const auto& [name, kernel] = GetParam();
  const auto golden = nlohmann::json::parse(*ReadFile(kGolden + name + "/golden.json"));
  const auto prompt = golden["prompt"].get<std::vector<TokenId>>();
  testing::TempDir dir;
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_1}) {
    DenseGguf(name, dtype).Write(dir.Path("q.gguf"));
    DenseGguf(name, dtype, /*decoded=*/true).Write(dir.Path("f.gguf"));
    const std::unique_ptr<Engine> engine = Load(dir.Path("q.gguf"), kernel),
                                  reference = Load(dir.Path("f.gguf"), "reference");
    ASSERT_TRUE(engine != nullptr && reference != nullptr);
    EXPECT_EQ(engine->info().quantization, Name(dtype));
    std::vector<float> logits, expected;
    ASSERT_OK(engine->Logits(prompt, &logits));
    ASSERT_OK(reference->Logits(prompt, &expected));
    double worst = 0;
    for (size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs(double{logits[i]} - expected[i]));
    EXPECT_LT(worst, 1e-3) << Name(dtype);
    EXPECT_EQ(Greedy(*engine, prompt, 24), Greedy(*reference, prompt, 24)) << Name(dtype);
  }
}

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
