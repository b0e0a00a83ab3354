// SPDX-License-Identifier: Apache-2.0
// Bodies of /v1/chat/completions and /v1/completions, read strictly: a field that is unknown, or that cannot be
// honoured here, is an error with its name. What is sent as null counts as absent, as callers' libraries have it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"

namespace conclave::orchestrator {

// ---- Limits, tested at the limit and one above.
inline constexpr int32_t kChoicesMax = 16;
inline constexpr int32_t kMessagesMax = 1'024;
inline constexpr int32_t kStopsMax = 16;
inline constexpr int32_t kStopBytesMax = 256;
inline constexpr int32_t kSchemaNameBytesMax = 64;

inline constexpr int32_t kLogprobsMax = 20;

inline constexpr const char* kResponseFormatField = "response_format";
inline constexpr const char* kLogprobsField = "logprobs";

struct OpenAiRequest {
  std::string model;
  std::vector<deliberation::v1::PromptMessage> messages;  // at least one; of completions: the prompt as one of "user"
  std::map<std::string, std::string> inputs;              // ours: further inputs of a graph
  deliberation::v1::SamplingDefaults sampling;            // `stop` included
  // response_format; null: any text. With kResponseFormatField as its place in errors.
  std::shared_ptr<const deliberation::v1::OutputConstraint> constraint;
  bool ignore_eos = false;  // of a member: end-of-sequence tokens do not end its words
  // Log-probabilities of the tokens are told, with so many of the best at each place.
  std::optional<int32_t> logprobs;
  std::optional<uint64_t> seed;
  int32_t choices = 1;
  bool stream = false;
  bool stream_usage = false;
};

enum class OpenAiApi : uint8_t { kChat, kCompletions };

// INVALID_ARGUMENT whose violation (protos/rpc_status.h) names the field.
absl::StatusOr<OpenAiRequest> ReadOpenAiRequest(std::string_view body, OpenAiApi api);

// What a graph is asked: the words of the only message; else all of them, each under who said it.
std::string QuestionOf(const OpenAiRequest& request);

}  // namespace conclave::orchestrator
