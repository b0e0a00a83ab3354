// SPDX-License-Identifier: Apache-2.0
// Where a call's randomness comes from. Stable for good: stored runs are repeated by it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::orchestrator {

// Identifies a question: FNV-1a over "name NUL value NUL" of its inputs in order of names.
uint64_t QuestionHash(const std::map<std::string, std::string>& inputs);

// What a call's seed is derived from. Attempts share it: a repeated call gives the same text.
struct SeedKey {
  uint64_t run_seed = 0;
  uint64_t question = 0;       // QuestionHash
  std::string_view node_path;  // "review[2].revise"
  std::string_view member;
  int32_t sample = 0;
  int32_t subject = -1;  // of a judge: index of the utterance judged
};

// h = Mix64(run_seed), then h = Mix64(h ^ part) for: question, FNV-1a(node_path), FNV-1a(member), sample, subject + 1.
// The top bit is cleared, as seeds travel as int64.
uint64_t DeriveSeed(const SeedKey& key);

// A permutation of [0, n) drawn from `seed`: Fisher-Yates with PhiloxUniform(seed, n, i).
std::vector<int32_t> Permutation(uint64_t seed, int32_t n);

}  // namespace conclave::orchestrator
