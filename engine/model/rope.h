// SPDX-License-Identifier: Apache-2.0
// Rotary frequencies with the scalings that checkpoints name (formulas: specs/models.md section 4).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace conclave::engine {

enum class RopeScaling : uint8_t {
  kNone,
  kLinear,  // every frequency / factor
  kLlama3,  // long waves / factor, short ones kept, a blend between
  kYarn,    // Peng et al. 2023: a ramp over the pairs instead, and an attention factor
};

struct RopeParameters {
  int32_t rotated = 0;  // R, even
  double base = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;          // > 0
  double original_context = 0;  // that the model was first trained for; kLlama3 and kYarn
  double low_frequency = 1.0;   // kLlama3: waves longer than original_context / low_frequency are divided
  double high_frequency = 4.0;  // kLlama3: waves shorter than original_context / high_frequency are kept
  double beta_fast = 32.0;      // kYarn: turns over original_context above which a pair is kept
  double beta_slow = 1.0;       // kYarn: turns below which a pair is divided
  bool truncate = true;         // kYarn: the ramp begins and ends at whole pairs
  double mscale = 0;            // kYarn; 0: none
  double mscale_all_dim = 0;    // kYarn; 0: none
  std::optional<double> attention_factor = {};  // kYarn: the magnitude, instead of the formula's
  std::vector<float> divisors = {};             // [R/2], of the frequencies, or empty: how GGUF ships Llama 3's scaling
};

struct RopeTable {
  std::vector<float> inverse_frequency;  // [R/2]
  float magnitude = 1.0f;                // multiplies cos and sin
};

RopeTable MakeRopeTable(const RopeParameters& parameters);

// g(m) = 0.1 m ln(factor) + 1; 1 where factor <= 1.
double YarnMagnitude(double factor, double mscale);

}  // namespace conclave::engine
