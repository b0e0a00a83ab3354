// SPDX-License-Identifier: Apache-2.0
// A small Llama with random weights, as a GGUF file: for tests that need a model but not what it says.
#pragma once

#include <cstdint>
#include <string>

#include "tests/testing/gguf_writer.h"

namespace conclave::testing {

struct TinyModelOptions {
  int32_t layers = 2, hidden = 32, heads = 4, kv_heads = 2, feed_forward = 48;
  int32_t context_tokens = 512;
  bool tied_head = true;
  double head_scale = 1;    // of an untied head: the spread of the logits
  bool never_ends = false;  // with an untied head: hardly ever says a special token, so a text is as long as allowed
  bool attention_bias = false;
  bool rope_freqs = false;  // divisors as Llama 3 has them
  int32_t nan_token = -1;   // its embedding is not a number
  uint64_t seed = 1;
  engine::DType matrices = engine::DType::kF32;  // encoded by simple rounding
  bool decoded = false;                          // what `matrices` made of the values, written as F32
};

// The vocabulary is byte-level: ids 0..255 are the bytes, then <|endoftext|> 256, <|im_start|> 257, <|im_end|> 258
// (which ends a text), and the merges " t" 259, "th" 260. The chat template is ChatML.
inline constexpr int32_t kTinyVocab = 261;
inline constexpr int32_t kTinyEnd = 258;

void AddTinyVocabulary(GgufWriter* w);

// The file, so that a test can spoil it before writing.
GgufWriter TinyModel(const TinyModelOptions& options = {});
// Deterministic normal deviates with standard deviation `scale`.
std::vector<float> RandomWeights(uint64_t seed, size_t count, double scale);

}  // namespace conclave::testing
