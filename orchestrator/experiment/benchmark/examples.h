// SPDX-License-Identifier: Apache-2.0
// Worked examples before each question, as data: few-shot items, or chain-of-thought prompts as published.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "orchestrator/experiment/benchmark/item.h"

namespace conclave::benchmark {

inline constexpr size_t kShotsMax = 64;
inline constexpr size_t kExamplesBytesMax = size_t{1} << 20;  // of one prompt

// Puts examples before the question of every item. `path` is
//   a .txt file: its text, for all items; or a folder with one <stratum>.txt each, as BIG-Bench Hard's cot-prompts
//   (what stands above a line of dashes is left out, and its "A: Let's think step by step." begins the answer);
//   anything LoadItems reads: of each stratum the first `shots` items, with their solutions where they have some.
// INVALID_ARGUMENT for a stratum without examples, for too many shots, and for an example that its own stratum asks.
absl::Status AddExamples(const std::string& path, size_t shots, std::vector<Item>& items);

// SHA-256 of all that is asked and all that is right, so also of the examples: two runs with equal ones asked the same.
std::string ItemsSha256(const std::vector<Item>& items);

}  // namespace conclave::benchmark
