// SPDX-License-Identifier: Apache-2.0
// Replies in OpenAI's words. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "orchestrator/door/mailbox.h"
#include "orchestrator/door/openai_request.h"
#include "orchestrator/http/http_server.h"
#include "orchestrator/http/json.h"

namespace conclave::orchestrator {

// {"error": {"message", "type", "param", "code"}}
http::Json ErrorJson(const absl::Status& status);
// The same with its HTTP status, and Retry-After where trying again may help.
http::Reply ErrorReply(const absl::Status& status);

// What all parts of one reply share.
struct ReplyHead {
  OpenAiApi api = OpenAiApi::kChat;
  std::string id;
  std::string model;
  int64_t created = 0;                   // Unix seconds
  std::optional<int32_t> logprobs = {};  // tokens are told, with so many of the best at their places
};

struct SpokenChoice {
  std::string text;
  std::vector<SpokenToken> tokens;
  SpokenEnd end;
};

// "usage": hidden tokens are part of completion_tokens, and named as reasoning_tokens beside.
http::Json UsageJson(const SpokenTokens& tokens);
SpokenTokens Sum(const std::vector<SpokenChoice>& choices);

// "logprobs" of a choice; null where they are not wanted. A token that is no UTF-8 by itself is named
// "bytes:\\xe2\\x82"; what cannot be said in JSON, minus infinity, is -9999.
http::Json LogprobsJson(const ReplyHead& head, std::span<const SpokenToken> tokens);

std::string WholeReply(const ReplyHead& head, const std::vector<SpokenChoice>& choices);

// ---- Events of a stream, each with its "data: " and the blank line.
// Of chat: who speaks. Empty for completions.
std::string BeginEvent(const ReplyHead& head, int32_t choice);
std::string TextEvent(const ReplyHead& head, const Spoken& spoken);
std::string EndEvent(const ReplyHead& head, int32_t choice, bool cut);
std::string UsageEvent(const ReplyHead& head, const SpokenTokens& tokens);
std::string ErrorEvent(const absl::Status& status);
inline constexpr std::string_view kDoneEvent = "data: [DONE]\n\n";
inline constexpr std::string_view kStillHereEvent = ": still here\n\n";

}  // namespace conclave::orchestrator
