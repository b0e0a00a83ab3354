// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: texts and chats to tokens.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

// REQUIRES: text.size() <= kTextBytesMax.
std::vector<TokenId> TokenizeText(const Tokenizer& tokenizer, std::string_view text, Vocabulary::SpecialTokens special,
                                  bool add_begin_of_sequence);

// The chat as the model's own template writes it. Only text that stands in the template itself can become special
// tokens, nothing that a message brings.
absl::StatusOr<Engine::ChatPrompt> RenderChat(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                              bool add_generation_prompt, int64_t now_unix_seconds);

}  // namespace conclave::engine
