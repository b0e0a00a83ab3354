// SPDX-License-Identifier: Apache-2.0
// Synthetic items from a seed, so that a clone without data has something real to run on. Every item has an exact
// answer (a whole number, graded by "gsm8k") and a worked solution that ends "#### answer".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/benchmark/item.h"

namespace conclave::benchmark {

struct GeneratorOptions {
  // "arithmetic": a chain of operations in words; "knights": knights and knaves, how many knights; "story": a word
  // problem about things and money; "string": edits of a word, then a count. Items take turns. Empty: all kinds.
  std::vector<std::string> kinds;
  size_t count = 0;    // 1 to kItemsMax
  uint64_t seed = 0;   // same options, same items; a larger count only adds items at the end
  int difficulty = 3;  // 1 (one step, two islanders) to kDifficultyMax
};

inline constexpr int kDifficultyMax = 10;

// Items with distinct questions, ids "synthetic-<kind>-<seed>-<number>", the kind as stratum. INVALID_ARGUMENT for an
// option out of range or an unknown kind; RESOURCE_EXHAUSTED when so many distinct items do not exist at this
// difficulty.
absl::StatusOr<std::vector<Item>> Generate(const GeneratorOptions& options);

// The kinds Generate knows, in alphabetical order.
std::span<const std::string_view> GeneratorKinds();

}  // namespace conclave::benchmark
