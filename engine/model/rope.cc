// SPDX-License-Identifier: Apache-2.0
#include "engine/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "common/check.h"

namespace conclave::engine {
namespace {

double Llama3(const RopeParameters& p, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength > p.original_context / p.low_frequency) return frequency / p.factor;
  if (wavelength < p.original_context / p.high_frequency) return frequency;
  const double smooth = (p.original_context / wavelength - p.low_frequency) / (p.high_frequency - p.low_frequency);
  return (1 - smooth) * frequency / p.factor + smooth * frequency;
}

// The pair that turns `turns` times over the original context, as a real number.
double YarnPair(const RopeParameters& p, double turns) {
  return p.rotated * std::log(p.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(p.base));
}

double YarnAttentionFactor(const RopeParameters& p) {
  if (p.attention_factor.has_value()) return *p.attention_factor;
  if (p.mscale != 0 && p.mscale_all_dim != 0) {
    return YarnMagnitude(p.factor, p.mscale) / YarnMagnitude(p.factor, p.mscale_all_dim);
  }
  return YarnMagnitude(p.factor, 1.0);
}

}  // namespace

double YarnMagnitude(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

RopeTable MakeRopeTable(const RopeParameters& p) {
  CONCLAVE_CHECK(p.rotated >= 0 && p.rotated % 2 == 0 && p.base > 0 && p.factor > 0);
  RopeTable table;
  double low = 0, high = 0;
  if (p.scaling == RopeScaling::kYarn) {
    low = YarnPair(p, p.beta_fast);
    high = YarnPair(p, p.beta_slow);
    if (p.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, static_cast<double>(p.rotated - 1));
    if (low == high) high += 0.001;
    table.magnitude = static_cast<float>(YarnAttentionFactor(p));
  }
  for (int32_t i = 0; i < p.rotated / 2; ++i) {
    double frequency = std::pow(p.base, -2.0 * i / p.rotated);
    switch (p.scaling) {
      case RopeScaling::kNone:
        break;
      case RopeScaling::kLinear:
        frequency /= p.factor;
        break;
      case RopeScaling::kLlama3:
        frequency = Llama3(p, frequency);
        break;
      case RopeScaling::kYarn: {
        const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
        frequency = frequency / p.factor * ramp + frequency * (1 - ramp);
        break;
      }
    }
    if (!p.divisors.empty()) frequency /= p.divisors[static_cast<size_t>(i)];
    table.inverse_frequency.push_back(static_cast<float>(frequency));
  }
  return table;
}

}  // namespace conclave::engine
