// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/openai_wire.h"

#include <charconv>
#include <cmath>

#include "common/status.h"
#include "orchestrator/backend/worker_call.h"
#include "orchestrator/http/json.h"

namespace conclave::orchestrator {
namespace {

using http::Json;

constexpr size_t kMessageBytesMax = 500;
constexpr int64_t kTokensMax = int64_t{1} << 40;  // more is no count
constexpr double kNsPerSecond = 1e9;
constexpr const char* kSchemaName = "answer";  // the API wants one

// A float as a person would write it: 0.7, not 0.699999988079071.
Json Short(float value) { return Json::parse(fmt::format("{}", value)); }

absl::Status NotAnEvent(std::string_view data, std::string_view why) {
  return DataLoss("the server's reply is no event of a chat completion: {}: {}", why, data.substr(0, kMessageBytesMax));
}

const Json* Find(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::string MessageOf(const Json& json) {
  const Json* error = Find(json, "error");
  if (error == nullptr) error = Find(json, "message");
  if (error != nullptr && error->is_object()) error = Find(*error, "message");
  return error != nullptr && error->is_string() ? error->get<std::string>().substr(0, kMessageBytesMax) : "";
}

absl::StatusOr<int64_t> Count(const Json& usage, const char* name) {
  const Json* count = Find(usage, name);
  if (count == nullptr) return 0;
  if (!count->is_number_integer() || count->get<int64_t>() < 0 || count->get<int64_t>() > kTokensMax) {
    return DataLoss("usage.{} is {}", name, count->dump().substr(0, kMessageBytesMax));
  }
  return count->get<int64_t>();
}

absl::StatusOr<OpenAiReader::Tokens> TokensOf(const Json& usage) {
  OpenAiReader::Tokens tokens;
  ASSIGN_OR_RETURN(tokens.prompt, Count(usage, "prompt_tokens"));
  ASSIGN_OR_RETURN(tokens.output, Count(usage, "completion_tokens"));
  if (const Json* details = Find(usage, "prompt_tokens_details"); details != nullptr) {
    ASSIGN_OR_RETURN(tokens.cached, Count(*details, "cached_tokens"));
  }
  tokens.cached = std::min(tokens.cached, tokens.prompt);
  return tokens;
}

absl::StatusOr<inference::v1::FinishReason> FinishOf(const Json& reason) {
  if (reason == "stop") return inference::v1::FINISH_REASON_STOP;
  if (reason == "length") return inference::v1::FINISH_REASON_LENGTH;
  if (reason == "content_filter") {
    return FailedPrecondition("the server's content filter withheld the answer");
  }
  return DataLoss("finish_reason {} is not known", reason.dump().substr(0, kMessageBytesMax));
}

// {"token", "logprob", "bytes"}: bytes may be null or absent, then the token is its text.
absl::Status ReadToken(const Json& json, inference::v1::TokenLogprob* out) {
  const Json* logprob = Find(json, "logprob");
  if (logprob == nullptr || !logprob->is_number()) return DataLoss("a log-probability without logprob");
  out->set_logprob(logprob->get<float>());
  if (const Json* bytes = Find(json, "bytes"); bytes != nullptr) {
    if (!bytes->is_array()) return DataLoss("bytes of a log-probability are no array");
    for (const Json& byte : *bytes) {
      if (!byte.is_number_unsigned() || byte.get<uint64_t>() > 255) {
        return DataLoss("bytes of a log-probability hold {}", byte.dump().substr(0, kMessageBytesMax));
      }
      out->mutable_text()->push_back(static_cast<char>(byte.get<uint8_t>()));
    }
  } else if (const Json* token = Find(json, "token"); token != nullptr && token->is_string()) {
    out->set_text(token->get<std::string>());
  }
  return absl::OkStatus();
}

// `logprobs` of a choice: per token its own and the best at its place.
absl::Status ReadLogprobs(const Json& logprobs, std::vector<inference::v1::Logprobs>* out) {
  const Json* content = Find(logprobs, "content");
  if (content == nullptr) return absl::OkStatus();
  if (!content->is_array()) return DataLoss("logprobs.content is no array");
  for (const Json& token : *content) {
    inference::v1::Logprobs& place = out->emplace_back();
    RETURN_IF_ERROR(ReadToken(token, place.mutable_chosen()));
    const Json* top = Find(token, "top_logprobs");
    if (top == nullptr) continue;
    if (!top->is_array()) return DataLoss("top_logprobs is no array");
    for (const Json& one : *top) RETURN_IF_ERROR(ReadToken(one, place.add_top()));
  }
  return absl::OkStatus();
}

absl::Status AddTrace(const inference::v1::Logprobs& place, TokenTrace* trace) {
  if (place.top().empty()) return DataLoss("logprobs without top_logprobs");
  double sum = 0;
  for (const inference::v1::TokenLogprob& one : place.top()) sum += static_cast<double>(one.logprob());
  trace->logprob_sum += static_cast<double>(place.chosen().logprob());
  trace->confidences.push_back(static_cast<float>(-sum / place.top_size()));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ToOpenAi(const CallRequest& request, const std::string& model,
                                     const MemberAbilities& abilities) {
  Json json = {{"model", model}, {"messages", Json::array()}};
  for (const deliberation::v1::PromptMessage& message : request.prompt) {
    json["messages"].push_back({{"role", message.role()}, {"content", message.content()}});
  }
  json["stream"] = true;
  json["stream_options"] = {{"include_usage", true}};
  const deliberation::v1::SamplingDefaults& sampling = request.sampling;
  if (sampling.has_temperature()) json["temperature"] = Short(sampling.temperature());
  if (sampling.has_top_p()) json["top_p"] = Short(sampling.top_p());
  if (sampling.has_max_output_tokens()) json["max_tokens"] = sampling.max_output_tokens();
  if (sampling.stop_size() > 0) json["stop"] = std::vector<std::string>(sampling.stop().begin(), sampling.stop().end());
  // Seeds of a run are below 2^63; every server takes a positive number of so many bits.
  if (abilities.seed) json["seed"] = request.seed & ((uint64_t{1} << 63) - 1);
  if (abilities.extended_sampling) {
    if (sampling.has_top_k()) json["top_k"] = sampling.top_k();
    if (sampling.has_min_p()) json["min_p"] = Short(sampling.min_p());
    if (sampling.has_repetition_penalty()) json["repetition_penalty"] = Short(sampling.repetition_penalty());
    if (request.ignore_eos) json["ignore_eos"] = true;
  }
  if ((request.token_trace || request.logprobs.has_value()) && abilities.logprobs) {
    json["logprobs"] = true;
    json["top_logprobs"] = std::max(request.token_trace ? kConfidenceTokens : 0, request.logprobs.value_or(0));
  }
  if (request.constraint != nullptr && request.constraint->has_json_schema() && abilities.json_schema) {
    auto schema = http::ParseJson(request.constraint->json_schema());
    if (!schema.ok()) return Annotate(schema.status(), "the JSON Schema of the text");
    json["response_format"] = {
        {"type", "json_schema"},
        {"json_schema", {{"name", kSchemaName}, {"strict", true}, {"schema", *std::move(schema)}}}};
  }
  return http::WriteJson(json);
}

absl::Status OpenAiError(int http_status, std::string_view body) {
  const auto json = http::ParseJson(body);
  std::string message = json.ok() ? MessageOf(*json) : "";
  if (message.empty()) message = std::string(body.substr(0, kMessageBytesMax));
  message = fmt::format("HTTP {}: {}", http_status, message);
  switch (http_status) {
    case 401:
      return MakeStatus(absl::StatusCode::kUnauthenticated, message);
    case 403:
      return MakeStatus(absl::StatusCode::kPermissionDenied, message);
    case 404:
      return MakeStatus(absl::StatusCode::kNotFound, message);
    case 429:
      return MakeStatus(absl::StatusCode::kResourceExhausted, message);
    case 408:
    case 409:
    case 500:
    case 502:
    case 503:
    case 504:
      return MakeStatus(absl::StatusCode::kUnavailable, message);
    default:
      return MakeStatus(
          http_status >= 400 && http_status < 500 ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kInternal,
          message);
  }
}

std::optional<int64_t> RetryAfterNs(std::string_view header) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(header.data(), header.data() + header.size(), seconds);
  if (error != std::errc() || end != header.data() + header.size()) return std::nullopt;
  if (!(seconds >= 0 && seconds <= 86'400)) return std::nullopt;
  return static_cast<int64_t>(seconds * kNsPerSecond);
}

absl::Status OpenAiReader::Take(std::string_view data, CallDelta* delta) {
  *delta = {};
  if (done_) return NotAnEvent(data, "it follows [DONE]");
  if (data == "[DONE]") {
    done_ = true;
    return absl::OkStatus();
  }
  const auto json = http::ParseJson(data);
  if (!json.ok()) return NotAnEvent(data, Message(json.status()));
  if (!json->is_object()) return NotAnEvent(data, "it is no object");
  if (const Json* error = Find(*json, "error"); error != nullptr) {
    const Json* code = Find(*error, "code");
    const int status = code != nullptr && code->is_number_integer() ? code->get<int>() : 500;
    return OpenAiError(status, data);
  }
  if (const Json* usage = Find(*json, "usage"); usage != nullptr) {
    ASSIGN_OR_RETURN(tokens_, TokensOf(*usage));
  }
  if (const Json* print = Find(*json, "system_fingerprint"); print != nullptr && print->is_string()) {
    fingerprint_ = print->get<std::string>().substr(0, kMessageBytesMax);
  }
  const Json* choices = Find(*json, "choices");
  if (choices == nullptr || !choices->is_array()) return NotAnEvent(data, "it has no choices");
  if (choices->empty()) return absl::OkStatus();  // of usage
  const Json& choice = choices->front();
  if (const Json* said = Find(choice, "delta"); said != nullptr) {
    if (const Json* content = Find(*said, "content"); content != nullptr) {
      if (!content->is_string()) return NotAnEvent(data, "content is no string");
      delta->text = content->get<std::string>();
      delta->token_count = 1;  // as most servers stream
    }
  }
  if (static_cast<int64_t>(text_.size() + delta->text.size()) > kCallTextBytesMax) {
    return ResourceExhausted("the text has more than {} bytes", kCallTextBytesMax);
  }
  text_ += delta->text;
  if (const Json* logprobs = Find(choice, "logprobs"); logprobs != nullptr) {
    RETURN_IF_ERROR(ReadLogprobs(*logprobs, &delta->logprobs));
    if (traces_ && !trace_.has_value()) trace_.emplace();
    for (size_t i = 0; traces_ && i < delta->logprobs.size(); ++i) {
      RETURN_IF_ERROR(AddTrace(delta->logprobs[i], &*trace_));
    }
  }
  if (const Json* reason = Find(choice, "finish_reason"); reason != nullptr) {
    ASSIGN_OR_RETURN(finish_reason_, FinishOf(*reason));
  }
  return absl::OkStatus();
}

absl::Status OpenAiReader::Finish() const {
  if (finish_reason_ != inference::v1::FINISH_REASON_UNSPECIFIED) return absl::OkStatus();
  return Unavailable("the reply ended in the middle");
}

}  // namespace conclave::orchestrator
