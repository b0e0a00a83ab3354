// SPDX-License-Identifier: Apache-2.0
// Values of expressions: exact rationals as far as they go, complex numbers of 384 bits beyond. An expression with
// variables is sampled at fixed points, the same in every program: two rational functions that agree at all of them
// are equal but for a chance of about (degree / 2^21)^6 (Schwartz 1980, Zippel 1979).
#pragma once

#include <gmpxx.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "orchestrator/experiment/grade/math/complex.h"
#include "orchestrator/experiment/grade/math/expression.h"

namespace conclave::grade::math {

// At the first kPositivePoints every variable is positive, at the others signs vary.
inline constexpr int kPoints = 6;
inline constexpr int kPositivePoints = 2;

struct Sample {
  enum class State : uint8_t { kUndefined, kExact, kNumeric };
  State state = State::kUndefined;
  mpq_class exact;
  Complex numeric;
  long scale = 0;  // NOLINT(google-runtime-int): the largest binary exponent met, for kNumeric
};

// Not thread-safe. The arena may grow between calls and must outlive it.
class Evaluator {
 public:
  explicit Evaluator(const Arena& arena) : arena_(arena) {}

  // Samples at all points; of a constant only the first. Computed once and kept.
  const std::vector<Sample>& Samples(int32_t node);
  bool IsConstant(int32_t node) { return Samples(node).size() == 1; }
  // The exact value of a constant that has one.
  std::optional<mpq_class> Exact(int32_t node);

 private:
  Sample At(const std::vector<int32_t>& order, int point);

  const Arena& arena_;
  std::unordered_map<int32_t, std::vector<Sample>> known_;
};

bool SameSample(const Sample& a, const Sample& b);
// "3/4", "1.41421356237309504880168872421", "undefined".
std::string SampleText(const Sample& sample);

}  // namespace conclave::grade::math
