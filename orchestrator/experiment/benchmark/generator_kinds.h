// SPDX-License-Identifier: Apache-2.0
// The kinds of synthetic items in words; callers use generator.h.
#pragma once

#include <cstdint>
#include <string>

#include "orchestrator/experiment/benchmark/dice.h"

namespace conclave::benchmark {

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
