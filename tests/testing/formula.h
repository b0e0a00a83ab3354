// SPDX-License-Identifier: Apache-2.0
// Weights as a formula of their tensor's name, the same here and in tests/golden/make_families.py.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::testing {

// u of element i: the upper 24 bits of splitmix64(FNV-1a of the name + i), in [0, 1).
inline std::vector<double> FormulaUniform(std::string_view name, size_t count) {
  uint64_t seed = 0xcbf29ce484222325;
  for (const char c : name) seed = (seed ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) {
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    values[i] = static_cast<double>(z >> 40) / (1 << 24);
  }
  return values;
}

// step (floor(16 u) - 8): what bf16 holds, and Q4_0 with the scale `step`, a power of two.
inline std::vector<float> FormulaCodes(std::string_view name, size_t count, double step) {
  std::vector<float> values;
  for (const double u : FormulaUniform(name, count)) {
    values.push_back(static_cast<float>(step * (static_cast<int>(16 * u) - 8)));
  }
  return values;
}

// 4-bit floats (OCP microscaling) of the codes floor(16 u), times step / 2, step or 2 step for each 32 of them.
inline std::vector<float> FormulaMicroscaled(const std::string& name, size_t count, double step) {
  constexpr double kFloats[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6};
  const std::vector<double> codes = FormulaUniform(name, count), scales = FormulaUniform(name + ":scale", count / 32);
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) {
    const double scale = step * std::exp2(static_cast<int>(3 * scales[i / 32]) - 1);
    values.push_back(static_cast<float>(kFloats[static_cast<int>(16 * codes[i])] * scale));
  }
  return values;
}

// offset + amplitude (2 u - 1), cut to the upper 16 bits of a float, so that bf16 holds it.
inline std::vector<float> FormulaWeights(std::string_view name, size_t count, double amplitude, double offset) {
  std::vector<float> values;
  for (const double u : FormulaUniform(name, count)) {
    const float value = static_cast<float>(offset + amplitude * (2 * u - 1));
    values.push_back(std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000u));
  }
  return values;
}

}  // namespace conclave::testing
