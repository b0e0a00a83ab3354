// SPDX-License-Identifier: Apache-2.0
// The same for quantised safetensors and their quantization_config.
#include <gtest/gtest.h>

#include <functional>

#include "engine/quant/half.h"
#include "tests/fuzz/damaged_model.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/tiny_model.h"

namespace conclave::engine {
namespace {

using testing::RandomWeights;
using testing::SafetensorsWriter;

std::string Halves(size_t count, uint64_t seed, bool bfloat16 = false) {
  std::string bytes;
  for (const float value : RandomWeights(seed, count, 0.1)) {
    const uint16_t half = bfloat16 ? quant::FloatToBfloat16(value) : quant::FloatToHalf(value);
    bytes += {static_cast<char>(half & 255), static_cast<char>(half >> 8)};
  }
  return bytes;
}

// Codes of all kinds, none of which is FP8's not-a-number.
std::string Codes(size_t bytes, uint64_t seed) {
  std::string codes;
  for (const float value : RandomWeights(seed, bytes, 60)) codes += static_cast<char>(static_cast<int>(value) & 0x77);
  return codes;
}

class DamagedQuantized : public testing::DamagedModel {
 protected:
  using Linear = std::function<void(SafetensorsWriter*, const std::string& module, int64_t rows, int64_t columns)>;

  // A Llama of one layer, as small as groups of 32 columns let it be.
  void DamageAll(const std::string& quantization, const Linear& linear, uint64_t seed) {
    constexpr int64_t kWidth = 32, kVocab = 16;
    SafetensorsWriter w;
    w.Add("model.embed_tokens.weight", DType::kBF16, Shape{kVocab, kWidth}, Halves(kVocab * kWidth, 1, true));
    for (const char* norm :
         {"model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"}) {
      w.Add(std::string(norm) + ".weight", DType::kBF16, Shape{kWidth}, Halves(kWidth, 2, true));
    }
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      linear(&w, std::string("model.layers.0.") + name, kWidth, kWidth);
    }
    const std::string config =
        R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":32,"intermediate_size":32,)"
        R"("num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":2,"vocab_size":16,)"
        R"("max_position_embeddings":64,"rms_norm_eps":1e-5,"tie_word_embeddings":true,"quantization_config":)" +
        quantization + "}";
    Put("config.json", config);
    Damage("", "model.safetensors", w.Build(), seed);
    Damage("", "config.json", config, seed + 1);
  }
};

TEST_F(DamagedQuantized, Awq) {
  DamageAll(R"({"quant_method":"awq","bits":4,"group_size":32,"zero_point":true,"version":"gemm",)"
            R"("modules_to_not_convert":["lm_head"]})",
            [](SafetensorsWriter* w, const std::string& module, int64_t rows, int64_t columns) {
              const Shape codes{columns, rows / 8}, zeros{1, rows / 8}, scales{1, rows};
              w->Add(module + ".qweight", DType::kI32, codes, Codes(4 * codes.elements(), 3));
              w->Add(module + ".qzeros", DType::kI32, zeros, Codes(4 * zeros.elements(), 4));
              w->Add(module + ".scales", DType::kF16, scales, Halves(scales.elements(), 5));
            },
            20);
}

TEST_F(DamagedQuantized, Gptq) {
  DamageAll(R"({"quant_method":"gptq","bits":8,"group_size":32,"desc_act":true,"sym":false,)"
            R"("checkpoint_format":"gptq","dynamic":{"-:lm_head":{}}})",
            [](SafetensorsWriter* w, const std::string& module, int64_t rows, int64_t columns) {
              const Shape codes{columns / 4, rows}, zeros{1, rows / 4}, scales{1, rows};
              w->Add(module + ".qweight", DType::kI32, codes, Codes(4 * codes.elements(), 6));
              w->Add(module + ".qzeros", DType::kI32, zeros, Codes(4 * zeros.elements(), 7));
              w->Add(module + ".scales", DType::kF16, scales, Halves(scales.elements(), 8));
              w->Add(module + ".g_idx", DType::kI32, Shape{columns}, std::string(4 * columns, '\0'));
            },
            22);
}

TEST_F(DamagedQuantized, Fp8) {
  DamageAll(R"({"quant_method":"fp8","activation_scheme":"dynamic","fmt":"e4m3","weight_block_size":[128,128]})",
            [](SafetensorsWriter* w, const std::string& module, int64_t rows, int64_t columns) {
              w->Add(module + ".weight", DType::kF8_E4M3, Shape{rows, columns}, Codes(rows * columns, 9));
              w->Add(module + ".weight_scale_inv", Shape{1, 1}, {0.01f});
            },
            24);
}

TEST_F(DamagedQuantized, CompressedTensors) {
  DamageAll(R"({"quant_method":"compressed-tensors","format":"pack-quantized","quantization_status":"compressed",)"
            R"("config_groups":{"group_0":{"targets":["Linear"],"weights":{"num_bits":4,"type":"int",)"
            R"("symmetric":false,"strategy":"group","group_size":32,"actorder":"group"}}},"ignore":["lm_head"]})",
            [](SafetensorsWriter* w, const std::string& module, int64_t rows, int64_t columns) {
              const Shape codes{rows, columns / 8}, zeros{rows / 8, 1}, scales{rows, 1};
              std::string shape(16, '\0');
              shape[0] = static_cast<char>(rows);
              shape[8] = static_cast<char>(columns);
              w->Add(module + ".weight_packed", DType::kI32, codes, Codes(4 * codes.elements(), 10));
              w->Add(module + ".weight_zero_point", DType::kI32, zeros, Codes(4 * zeros.elements(), 11));
              w->Add(module + ".weight_scale", DType::kBF16, scales, Halves(scales.elements(), 12, true));
              w->Add(module + ".weight_g_idx", DType::kI32, Shape{columns}, std::string(4 * columns, '\0'));
              w->Add(module + ".weight_shape", DType::kI64, Shape{2}, shape);
            },
            26);
}

}  // namespace
}  // namespace conclave::engine
