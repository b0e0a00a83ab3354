// SPDX-License-Identifier: Apache-2.0
// Random choices for generators of items.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/hash.h"

namespace conclave::benchmark {

// Random choices as a pure function of (seed, stream) and how many were made before.
class Dice {
 public:
  Dice(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
  // Uniform in [low, high].
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(PhiloxUniform(seed_, stream_, next_++) * static_cast<double>(high - low + 1));
  }
  template <typename T, size_t N>
  const T& Pick(const T (&from)[N]) {
    return from[Between(0, static_cast<int64_t>(N) - 1)];
  }

 private:
  uint64_t seed_;
  uint64_t stream_;
  uint64_t next_ = 0;
};

}  // namespace conclave::benchmark
