// SPDX-License-Identifier: Apache-2.0
// How often each token has occurred in one sequence: what the penalties look at.
#pragma once

#include <cstdint>
#include <span>

#include "absl/container/flat_hash_map.h"
#include "engine/sampler/sampler_params.h"

namespace conclave::engine {

// One per sequence with penalties; not thread-safe.
class TokenCounts {
 public:
  struct Count {
    bool in_prompt = false;
    int32_t in_output = 0;
  };

  // Room for `tokens` different tokens, so that adding them allocates nothing.
  void Reserve(size_t tokens) { counts_.reserve(tokens); }
  void AddPrompt(std::span<const TokenId> tokens);
  void AddOutput(TokenId token) { ++counts_[token].in_output; }

  const absl::flat_hash_map<TokenId, Count>& counts() const { return counts_; }

 private:
  absl::flat_hash_map<TokenId, Count> counts_;
};

}  // namespace conclave::engine
