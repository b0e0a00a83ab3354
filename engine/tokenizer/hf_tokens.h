// SPDX-License-Identifier: Apache-2.0
// Internal to engine/tokenizer: which tokens the small files of a Hugging Face directory name.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/hf_checkpoint.h"
#include "engine/tokenizer/vocabulary.h"

namespace conclave::engine {

// Ids that end a text: eos_token_id (one or a list) of generation_config.json, or of config.json where that has none.
absl::StatusOr<std::vector<TokenId>> ReadHfEndTokens(const HfDirectory& directory);

}  // namespace conclave::engine
