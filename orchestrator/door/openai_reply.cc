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

// As a caller sees a token.
std::string NameOf(const inference::v1::TokenLogprob& token) {
  if (rpc::ReplaceInvalidUtf8(token.text()) == token.text()) return token.text();
  std::string name = "bytes:";
  for (const char byte : token.text()) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return name;
}

double Logprob(const inference::v1::TokenLogprob& token) {
  constexpr double kLeast = -9999;
  return std::max(kLeast, static_cast<double>(token.logprob()));
}

Json ChatToken(const inference::v1::TokenLogprob& token) {
  Json json = {{"token", NameOf(token)}, {"logprob", Logprob(token)}, {"bytes", nullptr}};
  if (token.hidden()) return json;  // it stands for no text
  json["bytes"] = Json::array();
  for (const char byte : token.text()) json["bytes"].push_back(static_cast<unsigned char>(byte));
  return json;
}

// The best at a token's place, at most as many as were asked for.
std::span<const inference::v1::TokenLogprob* const> Best(const ReplyHead& head, const SpokenToken& token) {
  const auto count = std::min(token.at.top_size(), head.logprobs.value_or(0));
  return {token.at.top().data(), static_cast<size_t>(count)};
}

std::string ChoiceEvent(const ReplyHead& head, int32_t choice, Json delta, Json finish,
                        std::span<const SpokenToken> tokens = {}) {
  Json json = Head(head, true);
  json["choices"] = Json::array();
  Json& out = json["choices"].emplace_back();
  out["index"] = choice;
  if (head.api == OpenAiApi::kChat) {
    out["delta"] = std::move(delta);
  } else {
    out["text"] = delta.value("content", "");
  }
  if (!tokens.empty()) out["logprobs"] = LogprobsJson(head, tokens);
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

Json LogprobsJson(const ReplyHead& head, std::span<const SpokenToken> tokens) {
  if (!head.logprobs.has_value()) return nullptr;
  if (head.api == OpenAiApi::kChat) {
    Json content = Json::array();
    for (const SpokenToken& token : tokens) {
      Json& place = content.emplace_back(ChatToken(token.at.chosen()));
      place["top_logprobs"] = Json::array();
      for (const inference::v1::TokenLogprob* top : Best(head, token)) place["top_logprobs"].push_back(ChatToken(*top));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }
  Json json = {{"tokens", Json::array()},
               {"token_logprobs", Json::array()},
               {"top_logprobs", Json::array()},
               {"text_offset", Json::array()}};
  for (const SpokenToken& token : tokens) {
    json["tokens"].push_back(NameOf(token.at.chosen()));
    json["token_logprobs"].push_back(Logprob(token.at.chosen()));
    Json best = {{NameOf(token.at.chosen()), Logprob(token.at.chosen())}};
    // Of two that are called the same the more likely one is kept.
    for (const inference::v1::TokenLogprob* top : Best(head, token)) best.emplace(NameOf(*top), Logprob(*top));
    json["top_logprobs"].push_back(std::move(best));
    json["text_offset"].push_back(token.offset);
  }
  return json;
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
    out["logprobs"] = LogprobsJson(head, choices[i].tokens);
    out["finish_reason"] = FinishOf(choices[i].end.cut);
  }
  json["usage"] = UsageJson(Sum(choices));
  return http::WriteJson(json);
}

std::string BeginEvent(const ReplyHead& head, int32_t choice) {
  if (head.api == OpenAiApi::kCompletions) return "";
  return ChoiceEvent(head, choice, {{"role", "assistant"}, {"content", ""}}, nullptr);
}

std::string TextEvent(const ReplyHead& head, const Spoken& spoken) {
  return ChoiceEvent(head, spoken.choice, {{"content", spoken.text}}, nullptr, spoken.tokens);
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
