// SPDX-License-Identifier: Apache-2.0
// Internal to engine/tokenizer: what the small files beside tokenizer.json say about tokens and chats.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/format/hf_checkpoint.h"
#include "engine/tokenizer/vocabulary.h"

namespace conclave::engine {

// Ids that end a text: eos_token_id (one or a list) of generation_config.json, or of config.json where that has none.
absl::StatusOr<std::vector<TokenId>> ReadHfEndTokens(const HfDirectory& directory);

// Begin, end and padding token by their text (tokenizer_config.json, else special_tokens_map.json), whether
// they go around a text, and the chat template: chat_template.jinja, else chat_template of tokenizer_config.json, a
// text or a list of {name, template} whose "default" counts.
absl::Status ReadHfTokenizerConfig(const HfDirectory& directory, VocabularyData* vocabulary);

}  // namespace conclave::engine
