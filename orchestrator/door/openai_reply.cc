// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/openai_reply.h"

#include <absl/strings/ascii.h>

#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

using http::Json;

struct HttpStatus {
  int code;
  std::string_view type;
};

HttpStatus StatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return {400, "invalid_request_error"};
    case absl::StatusCode::kUnauthenticated:
      return {401, "authentication_error"};
    case absl::StatusCode::kPermissionDenied:
      return {403, "permission_error"};
    case absl::StatusCode::kNotFound:
      return {404, "invalid_request_error"};
    case absl::StatusCode::kAlreadyExists:
      return {409, "invalid_request_error"};
    case absl::StatusCode::kResourceExhausted:
      return {429, "rate_limit_error"};
    case absl::StatusCode::kCancelled:
      return {499, "cancelled"};
    case absl::StatusCode::kUnavailable:
      return {503, "server_error"};
    case absl::StatusCode::kDeadlineExceeded:
      return {504, "server_error"};
    default:
      return {500, "server_error"};
  }
}

std::string_view FinishOf(bool cut) { return cut ? "length" : "stop"; }

Json Head(const ReplyHead& head, bool chunk) {
  const char* object = head.api == OpenAiApi::kCompletions ? "text_completion"
                       : chunk                             ? "chat.completion.chunk"
                                                           : "chat.completion";
  return {{"id", head.id}, {"object", object}, {"created", head.created}, {"model", head.model}};
}

std::string Event(const Json& json) { return "data: " + http::WriteJson(json) + "\n\n"; }

std::string ChoiceEvent(const ReplyHead& head, int32_t choice, Json delta, Json finish) {
  Json json = Head(head, true);
  json["choices"] = Json::array();
  Json& out = json["choices"].emplace_back();
  out["index"] = choice;
  if (head.api == OpenAiApi::kChat) {
    out["delta"] = std::move(delta);
  } else {
    out["text"] = delta.value("content", "");
  }
  out["finish_reason"] = std::move(finish);
  return Event(json);
}

}  // namespace

Json ErrorJson(const absl::Status& status) {
  const auto violations = rpc::Violations(status);
  const std::string reason = absl::AsciiStrToLower(rpc::Reason(status));
  Json error;
  error["message"] = std::string(Message(status));
  error["type"] = StatusOf(status).type;
  error["param"] = violations.empty() ? Json() : Json(violations[0].field);
  error["code"] = reason.empty() ? Json() : Json(reason);
  return {{"error", std::move(error)}};
}

http::Reply ErrorReply(const absl::Status& status) {
  http::Reply reply;
  reply.status = StatusOf(status).code;
  reply.text = http::WriteJson(ErrorJson(status));
  if (reply.status == 429 || reply.status == 503) {
    const int64_t seconds = rpc::RetryDelayNs(status).value_or(0) / 1'000'000'000 + 1;
    reply.headers.emplace_back("Retry-After", std::to_string(seconds));
  }
  if (reply.status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  return reply;
}

Json UsageJson(const SpokenTokens& tokens) {
  return {{"prompt_tokens", tokens.prompt},
          {"completion_tokens", tokens.output},
          {"total_tokens", tokens.prompt + tokens.output},
          {"prompt_tokens_details", {{"cached_tokens", tokens.cached}}},
          {"completion_tokens_details", {{"reasoning_tokens", tokens.hidden}}}};
}

SpokenTokens Sum(const std::vector<SpokenChoice>& choices) {
  SpokenTokens sum;
  for (const SpokenChoice& choice : choices) {
    sum.prompt += choice.end.tokens.prompt;
    sum.cached += choice.end.tokens.cached;
    sum.output += choice.end.tokens.output;
    sum.hidden += choice.end.tokens.hidden;
  }
  return sum;
}

std::string WholeReply(const ReplyHead& head, const std::vector<SpokenChoice>& choices) {
  Json json = Head(head, false);
  json["choices"] = Json::array();
  for (size_t i = 0; i < choices.size(); ++i) {
    Json& out = json["choices"].emplace_back();
    out["index"] = i;
    if (head.api == OpenAiApi::kChat) {
      out["message"] = {{"role", "assistant"}, {"content", choices[i].text}};
    } else {
      out["text"] = choices[i].text;
    }
    out["logprobs"] = nullptr;
    out["finish_reason"] = FinishOf(choices[i].end.cut);
  }
  json["usage"] = UsageJson(Sum(choices));
  return http::WriteJson(json);
}

std::string BeginEvent(const ReplyHead& head, int32_t choice) {
  if (head.api == OpenAiApi::kCompletions) return "";
  return ChoiceEvent(head, choice, {{"role", "assistant"}, {"content", ""}}, nullptr);
}

std::string TextEvent(const ReplyHead& head, int32_t choice, std::string_view text) {
  return ChoiceEvent(head, choice, {{"content", std::string(text)}}, nullptr);
}

std::string EndEvent(const ReplyHead& head, int32_t choice, bool cut) {
  return ChoiceEvent(head, choice, Json::object(), FinishOf(cut));
}

std::string UsageEvent(const ReplyHead& head, const SpokenTokens& tokens) {
  Json json = Head(head, true);
  json["choices"] = Json::array();
  json["usage"] = UsageJson(tokens);
  return Event(json);
}

std::string ErrorEvent(const absl::Status& status) { return Event(ErrorJson(status)); }

}  // namespace conclave::orchestrator
