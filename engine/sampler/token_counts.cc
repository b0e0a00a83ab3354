// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler/token_counts.h"

namespace conclave::engine {

void TokenCounts::AddPrompt(std::span<const TokenId> tokens) {
  for (const TokenId token : tokens) counts_[token].in_prompt = true;
}

}  // namespace conclave::engine
