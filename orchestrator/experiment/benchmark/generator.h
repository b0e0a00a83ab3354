// SPDX-License-Identifier: Apache-2.0
// Synthetic items from a seed, so that a clone without data has something real to run on. Every item has an exact
// answer (a whole number, graded by "gsm8k") and a worked solution that ends "#### answer".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/benchmark/difficulty.h"
#include "orchestrator/experiment/benchmark/item.h"
#include "orchestrator/experiment/benchmark/split.h"

namespace conclave::benchmark {

struct GeneratorOptions {
  // "arithmetic": a chain of operations in words; "knights": knights and knaves, how many knights; "story": a word
  // problem about things and money; "string": edits of a word, then a count. Empty: these four. The families of
  // steps/families.h, whose solutions are numbered steps, by their names; "steps": all of them. Each may be followed by
  // its own difficulty, or a range of which its items take turns: "chain:4", "sorting:2-6". Kinds take turns.
  std::vector<std::string> kinds;
  size_t count = 0;    // 1 to kItemsMax
  uint64_t seed = 0;   // same options, same items; a larger count only adds items at the end
  int difficulty = 3;  // 1 (one step, two islanders) to kDifficultyMax
  // Only questions of this split. Absent: of all, and other items than with one.
  std::optional<Split> split = std::nullopt;
};

// Items with distinct questions, the kind as stratum, ids "synthetic-<kind>-<seed>-<number>", with a split
// "synthetic-<split>-<kind>-<seed>-<number>". INVALID_ARGUMENT for an option out of range or an unknown kind;
// RESOURCE_EXHAUSTED when so many distinct items do not exist at this difficulty.
absl::StatusOr<std::vector<Item>> Generate(const GeneratorOptions& options);

// The kinds Generate knows, in alphabetical order.
std::span<const std::string_view> GeneratorKinds();

}  // namespace conclave::benchmark
