// SPDX-License-Identifier: Apache-2.0
// Models of about 4 KB in every format, cut to every length and with random bits flipped, through the whole engine:
// each is an error that says what is wrong, or a model that computes. Memory stays below half a gigabyte throughout.
#include <gtest/gtest.h>

#include <filesystem>

#include "common/file.h"
#include "common/jinja/jinja.h"
#include "common/status.h"
#include "engine/format/json.h"
#include "engine/tokenizer/hf_vocabulary.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/fuzz/damaged_model.h"
#include "tests/testing/corruption.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace conclave::engine {
namespace {

using testing::ForEveryTruncation;
using testing::ForRandomFlips;
using testing::GgufWriter;
using testing::RandomWeights;
using testing::SafetensorsWriter;

constexpr int kHidden = 16, kVocab = 16;

class DamagedModels : public testing::DamagedModel {
 protected:
  // ---- A Llama of one layer, in GGUF and as Hugging Face has it.

  struct Tensor {
    const char *gguf, *hf;
    Shape shape;
  };
  static std::vector<Tensor> Tensors() {
    const Shape square{kHidden, kHidden}, vector{kHidden};
    return {{"token_embd.weight", "model.embed_tokens.weight", {kVocab, kHidden}},
            {"output_norm.weight", "model.norm.weight", vector},
            {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight", vector},
            {"blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", square},
            {"blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight", square},
            {"blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight", square},
            {"blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight", square},
            {"blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight", vector},
            {"blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight", square},
            {"blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight", square},
            {"blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight", square}};
  }
  // Half precision: the file is then metadata as much as weights.
  static std::string Bytes(const Shape& shape, uint64_t seed) {
    const std::vector<float> values = RandomWeights(seed, static_cast<size_t>(shape.elements()), 0.3);
    std::string bytes;
    for (const float value : values) {
      const uint32_t bits = std::bit_cast<uint32_t>(value);
      bytes += {static_cast<char>(bits >> 16 & 255), static_cast<char>(bits >> 24)};
    }
    return bytes;
  }
  static void AddMetadata(GgufWriter* w) {
    w->Add("general.architecture", "llama").Add("llama.block_count", 1u).Add("llama.context_length", 64u);
    w->Add("llama.embedding_length", uint32_t{kHidden}).Add("llama.feed_forward_length", uint32_t{kHidden});
    w->Add("llama.attention.head_count", 2u).Add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    w->Add("llama.rope.scaling.type", "linear").Add("llama.rope.scaling.factor", 2.0f);
    std::vector<std::string> tokens;
    for (int i = 0; i < kVocab; ++i) tokens.push_back("<" + std::to_string(i) + ">");
    tokens[0] = "<";
    tokens[1] = "1";
    tokens[2] = "<1";
    w->Add("tokenizer.ggml.model", "gpt2").Add("tokenizer.ggml.pre", "gpt-2").AddArray("tokenizer.ggml.tokens", tokens);
    w->AddArray("tokenizer.ggml.merges", std::vector<std::string>{"< 1"});
    w->AddArray("tokenizer.ggml.token_type", std::vector<int32_t>(kVocab, 1));
    w->Add("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}");
  }
  static void AddTensors(GgufWriter* w, size_t from, size_t to) {
    const std::vector<Tensor> tensors = Tensors();
    for (size_t i = from; i < to; ++i) {
      w->AddTensor(tensors[i].gguf, DType::kBF16, tensors[i].shape, Bytes(tensors[i].shape, i));
    }
  }
};

TEST_F(DamagedModels, Gguf) {
  GgufWriter w;
  AddMetadata(&w);
  AddTensors(&w, 0, Tensors().size());
  Damage("m.gguf", "m.gguf", w.Build(), 1);
}

TEST_F(DamagedModels, SplitGguf) {
  const std::string first = "m-00001-of-00002.gguf", second = "m-00002-of-00002.gguf";
  GgufWriter parts[2];
  AddMetadata(&parts[0]);
  for (uint16_t i = 0; i < 2; ++i) {
    parts[i].Add("split.no", i).Add("split.count", uint16_t{2});
    parts[i].Add("split.tensors.count", static_cast<int32_t>(Tensors().size()));
  }
  AddTensors(&parts[0], 0, 4);
  AddTensors(&parts[1], 4, Tensors().size());
  Put(second, parts[1].Build());
  Damage(first, first, parts[0].Build(), 2);
  Damage(first, second, parts[1].Build(), 3);
}

TEST_F(DamagedModels, HuggingFaceDirectory) {
  const std::string config =
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":16,"intermediate_size":16,)"
      R"("num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":2,"vocab_size":16,"hidden_act":"silu",)"
      R"("max_position_embeddings":64,"rms_norm_eps":1e-5,"rope_theta":10000.0,"tie_word_embeddings":true,)"
      R"("attention_bias":false,"eos_token_id":[2,3],"torch_dtype":"bfloat16","rope_scaling":{"rope_type":"yarn",)"
      R"("factor":4.0,"original_max_position_embeddings":16,"beta_fast":32,"beta_slow":1}})";
  const std::string generation =
      R"({"do_sample":true,"temperature":0.6,"top_p":0.95,"top_k":20,"min_p":0.1,"repetition_penalty":1.05,)"
      R"("eos_token_id":[2,3],"bos_token_id":1,"transformers_version":"4.51.0"})";
  SafetensorsWriter w, shards[2];
  std::string map;
  uint64_t seed = 0;
  for (const Tensor& tensor : Tensors()) {
    const std::string bytes = Bytes(tensor.shape, seed);
    w.Add(tensor.hf, DType::kBF16, tensor.shape, bytes);
    shards[seed % 2].Add(tensor.hf, DType::kBF16, tensor.shape, bytes);
    map += fmt::format("{}\"{}\":\"model-{}.safetensors\"", map.empty() ? "" : ",", tensor.hf, seed % 2);
    ++seed;
  }
  Put("generation_config.json", generation);
  Put("config.json", config);
  Damage("", "model.safetensors", w.Build(), 4);
  Damage("", "config.json", config, 5);
  Damage("", "generation_config.json", generation, 6);
  std::filesystem::remove(dir_.Path("model.safetensors"));
  shards[0].Write(dir_.Path("model-0.safetensors"));
  shards[1].Write(dir_.Path("model-1.safetensors"));
  Damage("", "model.safetensors.index.json", R"({"metadata":{"total_size":4096},"weight_map":{)" + map + "}}", 7);
}

TEST_F(DamagedModels, TokenizerJson) {
  const auto works = [](std::string_view text) {
    const auto document = JsonDocument::Parse("tokenizer.json", text);
    if (!document.ok()) return false;
    auto vocabulary = ReadHfVocabulary(**document);
    if (!vocabulary.ok()) {
      EXPECT_TRUE(testing::IsClear(vocabulary.status(), "tokenizer.json")) << vocabulary.status();
      return false;
    }
    const auto tokenizer = Tokenizer::Create(*std::move(vocabulary));
    if (!tokenizer.ok()) return false;
    const auto ids =
        (*tokenizer)->Encode("the word [L] 12\xff", Tokenizer::Special::kParse, Tokenizer::AddBos::kIfModelDoes);
    if (ids.ok()) (*tokenizer)->Decode(*ids, Tokenizer::SpecialText::kAsText);
    return true;
  };
  for (const char* name : {"gpt2_like.json", "metaspace_first.json"}) {
    const std::string good = *ReadFile(fmt::format("{}/tests/golden/tokenizers/{}", CONCLAVE_SOURCE_DIR, name));
    ASSERT_TRUE(works(good));
    ForEveryTruncation(good, [&](std::string_view cut) {
      EXPECT_TRUE(cut.size() + 1 == good.size() || !works(cut)) << name << " " << cut.size();
    });
    int working = 0;
    ForRandomFlips(good, 8, [&](std::string_view flipped) { working += works(flipped) ? 1 : 0; });
    std::printf("%s: %zu bytes, %d of %d flipped copies load\n", name, good.size(), working, testing::kFlippedCopies);
    EXPECT_GT(working, 100);
  }
}

TEST_F(DamagedModels, ChatTemplate) {
  using jinja::Value;
  std::string good;
  for (int copy = 0; good.size() < 4096; ++copy) {
    for (const char* name : {"chat", "filters", "formats", "macros", "whitespace"}) {
      good += *ReadFile(fmt::format("{}/tests/fuzz/corpus/jinja/{}", CONCLAVE_SOURCE_DIR, name));
    }
    const size_t block = good.rfind("{% block b %}");  // a name that may be there once
    ASSERT_NE(block, std::string::npos);
    good.insert(block + 10, std::to_string(copy));
  }
  const Value context = Value::Object(
      {{"messages",
        Value::List({Value::Object({{"role", Value::String("user")}, {"content", Value::UserText("hi")}})})},
       {"a", Value::Int(3)},
       {"b", Value::Float(2.5)},
       {"l", Value::List({Value::Int(3), Value::UserText("x")})},
       {"s", Value::UserText("Hello")},
       {"add_generation_prompt", Value::Bool(true)}});
  jinja::RenderOptions options;
  options.limits.steps = 20'000;
  options.limits.output_bytes = 1 << 16;
  options.limits.memory_bytes = 1 << 22;
  int parsing = 0, rendering = 0;
  const auto damaged = [&](std::string_view text) {
    const auto parsed = jinja::Template::Parse(text);
    const absl::Status status = parsed.ok() ? parsed->Render(context, options).status() : parsed.status();
    parsing += parsed.ok() ? 1 : 0;
    rendering += status.ok() ? 1 : 0;
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kInvalidArgument) << status;
  };
  damaged(good);
  ASSERT_EQ(rendering, 1);
  ForEveryTruncation(good, damaged);
  ForRandomFlips(good, 9, damaged);
  std::printf("chat template: %zu bytes, %d damaged copies parse, %d render\n", good.size(), parsing, rendering);
  EXPECT_GT(rendering, 100);
}

}  // namespace
}  // namespace conclave::engine
