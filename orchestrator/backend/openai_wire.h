// SPDX-License-Identifier: Apache-2.0
// Between a call and the words of an OpenAI-compatible server. Nothing here knows a connection.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "orchestrator/backend/backend.h"

namespace conclave::orchestrator {

// The body of POST /chat/completions, streamed, with what `abilities` allows. INVALID_ARGUMENT for a schema that is no
// JSON.
absl::StatusOr<std::string> ToOpenAi(const CallRequest& request, const std::string& model,
                                     const MemberAbilities& abilities);

// What becomes of a reply that is not 200. RESOURCE_EXHAUSTED for 429, UNAVAILABLE for what may pass (408, 409, 500,
// 502, 503, 504), else what the status says; the server's own message where its body has one.
absl::Status OpenAiError(int http_status, std::string_view body);

// "Retry-After" in seconds, as nanoseconds; nullopt for a date or anything else.
std::optional<int64_t> RetryAfterNs(std::string_view header);

// Reads the events of a streamed reply, each once, in order.
class OpenAiReader {
 public:
  // `traces`: log-probabilities are summed up, each with those of the best at its place.
  explicit OpenAiReader(bool traces) : traces_(traces) {}

  // What the event says of new words goes to `delta`. DATA_LOSS for what is no event of a chat completion; the server's
  // own error as OpenAiError has it; RESOURCE_EXHAUSTED for a text above kCallTextBytesMax.
  absl::Status Take(std::string_view data, CallDelta* delta);
  // After the connection's end: UNAVAILABLE for a reply that was cut.
  absl::Status Finish() const;

  const std::string& text() const { return text_; }
  inference::v1::FinishReason finish_reason() const { return finish_reason_; }
  const std::optional<TokenTrace>& trace() const { return trace_; }
  const std::string& fingerprint() const { return fingerprint_; }
  // As the server counts; nullopt: it does not say.
  struct Tokens {
    int64_t prompt = 0, cached = 0, output = 0;
  };
  const std::optional<Tokens>& tokens() const { return tokens_; }

 private:
  const bool traces_;
  std::string text_;
  inference::v1::FinishReason finish_reason_ = inference::v1::FINISH_REASON_UNSPECIFIED;
  std::optional<TokenTrace> trace_;
  std::optional<Tokens> tokens_;
  std::string fingerprint_;
  bool done_ = false;
};

}  // namespace conclave::orchestrator
