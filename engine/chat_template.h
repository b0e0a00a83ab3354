// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: a chat as the model's own template writes it, and its tokens.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/jinja.h"
#include "engine/engine.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

// Immutable, so thread-safe.
class ChatTemplate {
 public:
  // `tokenizer` outlives the object. A template that does not parse is an error of Render, not of loading: the model
  // can still continue plain text.
  explicit ChatTemplate(const Tokenizer& tokenizer);

  // Only text that stands in the template itself can become special tokens, nothing that a message brings: a panel of
  // models that quote one another must not be able to speak in another's name.
  // FAILED_PRECONDITION CHAT_TEMPLATE_MISSING; INVALID_ARGUMENT with the template's own error and its place.
  absl::StatusOr<ChatPrompt> Render(std::span<const ChatMessage> messages, bool add_generation_prompt,
                                    int64_t now_unix_seconds) const;
  // The same with all variables as one JSON object, whose texts are a user's. INVALID_ARGUMENT if it is none.
  absl::StatusOr<ChatPrompt> RenderJson(std::string_view variables_json, int64_t now_unix_seconds) const;

 private:
  using Variables = std::vector<std::pair<std::string, jinja::Value>>;
  // The special tokens that templates write.
  Variables TokenVariables() const;
  absl::StatusOr<ChatPrompt> RenderWith(Variables variables, int64_t now_unix_seconds) const;

  const Tokenizer& tokenizer_;
  const absl::StatusOr<jinja::Template> template_;
};

}  // namespace conclave::engine
