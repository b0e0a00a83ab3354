// SPDX-License-Identifier: Apache-2.0
// The kinds of synthetic items; callers use generator.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

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

struct Puzzle {
  std::string question;
  int64_t answer = 0;
  std::string solution;  // lines of reasoning, without the final "####" line
};

// Difficulty is 1 to kDifficultyMax in each.
Puzzle MakeArithmetic(Dice& dice, int difficulty);  // `difficulty` operations
Puzzle MakeKnights(Dice& dice, int difficulty);     // 2 to 7 islanders, one consistent reading
Puzzle MakeStory(Dice& dice, int difficulty);       // `difficulty` changes of a quantity, then perhaps its worth
Puzzle MakeString(Dice& dice, int difficulty);      // `difficulty` edits of a word, then one count

}  // namespace conclave::benchmark
