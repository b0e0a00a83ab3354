// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/tiny_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "common/hash.h"
#include "engine/quant/codec.h"

namespace conclave::testing {
namespace {

// The alphabet of byte-level vocabularies: printable Latin-1 stands for itself, the rest for U+0100 and on.
std::string ByteAsText(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 128) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
}

void AddMatrix(const std::string& name, const engine::Shape& shape, std::vector<float> values,
               const TinyModelOptions& o, GgufWriter* w) {
  const auto row_bytes = static_cast<size_t>(engine::RowBytes(o.matrices, shape[1]));
  std::vector<std::byte> bytes(row_bytes * static_cast<size_t>(shape[0]));
  for (size_t n = 0; n < static_cast<size_t>(shape[0]); ++n) {
    const auto row = std::span(values).subspan(n * shape[1], shape[1]);
    engine::quant::EncodeRow(o.matrices, row, bytes.data() + n * row_bytes);
    engine::quant::DecodeRow(o.matrices, bytes.data() + n * row_bytes, row);
  }
  if (o.decoded) {
    w->AddTensor(name, shape, values);
  } else {
    w->AddTensor(name, o.matrices, shape, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
}

}  // namespace

void AddTinyVocabulary(GgufWriter* w) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(ByteAsText(byte));
  for (const char* special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) tokens.emplace_back(special);
  tokens.push_back(ByteAsText(' ') + "t");
  tokens.emplace_back("th");
  std::vector<int32_t> types(tokens.size(), 1);
  for (int special : {256, 257, 258}) types[special] = 3;
  w->Add("tokenizer.ggml.model", "gpt2").Add("tokenizer.ggml.pre", "gpt-2").AddArray("tokenizer.ggml.tokens", tokens);
  w->AddArray("tokenizer.ggml.token_type", types);
  w->AddArray("tokenizer.ggml.merges", std::vector<std::string>{ByteAsText(' ') + " t", "t h"});
  w->Add("tokenizer.ggml.bos_token_id", 257u).Add("tokenizer.ggml.eos_token_id", 258u);
  w->Add("tokenizer.ggml.add_bos_token", false);
  w->Add("tokenizer.chat_template",
         "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
}

std::vector<float> RandomWeights(uint64_t seed, size_t count, double scale) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {  // Box and Muller
    const double u = 1.0 - PhiloxUniform(seed, 0, i), angle = 2 * std::numbers::pi * PhiloxUniform(seed, 1, i);
    values[i] = static_cast<float>(scale * std::sqrt(-2 * std::log(u)) * std::cos(angle));
  }
  return values;
}

GgufWriter TinyModel(const TinyModelOptions& o) {
  GgufWriter w;
  w.Add("general.architecture", "llama").Add("general.name", "tiny");
  const auto add = [&w](const char* key, int32_t value) {
    w.Add(std::string("llama.") + key, static_cast<uint32_t>(value));
  };
  add("block_count", o.layers);
  add("context_length", o.context_tokens);
  add("embedding_length", o.hidden);
  add("feed_forward_length", o.feed_forward);
  add("attention.head_count", o.heads);
  add("attention.head_count_kv", o.kv_heads);
  w.Add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  AddTinyVocabulary(&w);

  uint64_t seed = o.seed << 20;
  const auto matrix = [&](const std::string& name, int32_t rows, int32_t columns, double scale = 1) {
    scale /= std::sqrt(columns);
    AddMatrix(name, {rows, columns}, RandomWeights(++seed, size_t{1} * rows * columns, scale), o, &w);
  };
  const auto gain = [&](const std::string& name, int32_t size) {
    std::vector<float> values = RandomWeights(++seed, size, 0.1);
    for (float& value : values) value += 1;
    w.AddTensor(name, engine::Shape{size}, values);
  };
  const auto bias = [&](const std::string& name, int32_t size) {
    w.AddTensor(name, engine::Shape{size}, RandomWeights(++seed, size, 0.2));
  };
  const int32_t head_dim = o.hidden / o.heads;
  std::vector<float> embedding = RandomWeights(++seed, size_t{1} * kTinyVocab * o.hidden, 1 / std::sqrt(o.hidden));
  if (o.nan_token >= 0) embedding[size_t{1} * o.nan_token * o.hidden] = std::numeric_limits<float>::quiet_NaN();
  AddMatrix("token_embd.weight", {kTinyVocab, o.hidden}, std::move(embedding), o, &w);
  gain("output_norm.weight", o.hidden);
  if (o.rope_freqs) {
    std::vector<float> divisors;
    for (int32_t i = 0; i < head_dim / 2; ++i) divisors.push_back(1.0f + static_cast<float>(i));
    w.AddTensor("rope_freqs.weight", engine::Shape{head_dim / 2}, divisors);
  }
  if (!o.tied_head) {
    std::vector<float> head =
        RandomWeights(++seed, size_t{1} * kTinyVocab * o.hidden, o.head_scale / std::sqrt(o.hidden));
    if (o.never_ends) std::fill_n(head.begin() + 256 * o.hidden, 3 * o.hidden, 0.0f);  // beside a spread of head_scale
    AddMatrix("output.weight", {kTinyVocab, o.hidden}, std::move(head), o, &w);
  }
  for (int32_t layer = 0; layer < o.layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    gain(prefix + "attn_norm.weight", o.hidden);
    matrix(prefix + "attn_q.weight", o.heads * head_dim, o.hidden);
    matrix(prefix + "attn_k.weight", o.kv_heads * head_dim, o.hidden);
    matrix(prefix + "attn_v.weight", o.kv_heads * head_dim, o.hidden);
    if (o.attention_bias) {
      bias(prefix + "attn_q.bias", o.heads * head_dim);
      bias(prefix + "attn_k.bias", o.kv_heads * head_dim);
      bias(prefix + "attn_v.bias", o.kv_heads * head_dim);
    }
    matrix(prefix + "attn_output.weight", o.hidden, o.heads * head_dim);
    gain(prefix + "ffn_norm.weight", o.hidden);
    matrix(prefix + "ffn_gate.weight", o.feed_forward, o.hidden);
    matrix(prefix + "ffn_up.weight", o.feed_forward, o.hidden);
    matrix(prefix + "ffn_down.weight", o.hidden, o.feed_forward);
  }
  return w;
}

}  // namespace conclave::testing
