// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: texts to tokens.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

// REQUIRES: text.size() <= kTextBytesMax.
absl::StatusOr<std::vector<TokenId>> TokenizeText(const Tokenizer& tokenizer, std::string_view text,
                                                  Vocabulary::SpecialTokens special, bool add_begin_of_sequence);

}  // namespace conclave::engine
