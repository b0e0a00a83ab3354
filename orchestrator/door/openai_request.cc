// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/openai_request.h"

#include <absl/strings/ascii.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/status.h"
#include "orchestrator/http/json.h"
#include "orchestrator/role/role.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

using deliberation::v1::PromptMessage;
using http::Json;

absl::Status Wrong(const std::string& field, const std::string& what) {
  const rpc::FieldViolation violation = {field, what};
  return rpc::WithViolations(InvalidArgument("{}: {}", field, what), {&violation, 1});
}

absl::StatusOr<double> Real(const Json& json, const std::string& field, double low, double high) {
  if (!json.is_number()) return Wrong(field, "must be a number");
  const double value = json.get<double>();
  if (!(value >= low && value <= high)) return Wrong(field, fmt::format("{} is not in [{}, {}]", value, low, high));
  return value;
}

absl::StatusOr<int64_t> Whole(const Json& json, const std::string& field, int64_t low, int64_t high) {
  if (!json.is_number_integer()) return Wrong(field, "must be a whole number");
  const bool huge = json.is_number_unsigned() && json.get<uint64_t>() > std::numeric_limits<int64_t>::max();
  if (huge || json.get<int64_t>() < low || json.get<int64_t>() > high) {
    return Wrong(field, fmt::format("{} is not in [{}, {}]", json.dump(), low, high));
  }
  return json.get<int64_t>();
}

absl::StatusOr<bool> Truth(const Json& json, const std::string& field) {
  if (!json.is_boolean()) return Wrong(field, "must be true or false");
  return json.get<bool>();
}

absl::StatusOr<std::string> Text(const Json& json, const std::string& field) {
  if (!json.is_string()) return Wrong(field, "must be a string");
  return json.get<std::string>();
}

// "content": a string, or an array of text parts.
absl::StatusOr<std::string> Content(const Json& json, const std::string& field) {
  if (json.is_string()) return json.get<std::string>();
  if (!json.is_array()) return Wrong(field, "must be a string, or an array of text parts");
  std::string text;
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string place = fmt::format("{}[{}]", field, i);
    if (!json[i].is_object() || json[i].size() != 2 || json[i].value("type", Json()) != "text" ||
        !json[i].contains("text")) {
      return Wrong(place, "must be {\"type\": \"text\", \"text\": ..}; members read text only");
    }
    ASSIGN_OR_RETURN(const std::string part, Text(json[i]["text"], place + ".text"));
    text += part;
  }
  return text;
}

absl::StatusOr<PromptMessage> Message(const Json& json, const std::string& field) {
  if (!json.is_object()) return Wrong(field, "must be an object");
  PromptMessage message;
  for (const auto& [name, value] : json.items()) {
    const std::string place = fmt::format("{}.{}", field, name);
    if (name == "role") {
      ASSIGN_OR_RETURN(std::string role, Text(value, place));
      if (role == "developer") role = "system";  // what later APIs call it
      if (role != "system" && role != "user" && role != "assistant") {
        return Wrong(place, fmt::format("\"{}\" is not system, developer, user or assistant", role));
      }
      message.set_role(role);
    } else if (name == "content") {
      ASSIGN_OR_RETURN(*message.mutable_content(), Content(value, place));
    } else if (!value.is_null()) {
      return Wrong(place, "is not supported here");
    }
  }
  if (message.role().empty()) return Wrong(field + ".role", "is missing");
  if (!json.contains("content")) return Wrong(field + ".content", "is missing");
  return message;
}

absl::Status ReadMessages(const Json& json, OpenAiRequest* out) {
  if (!json.is_array() || json.empty()) return Wrong("messages", "must be an array of at least one message");
  if (json.size() > kMessagesMax) {
    return Wrong("messages", fmt::format("{} messages, at most {}", json.size(), kMessagesMax));
  }
  for (size_t i = 0; i < json.size(); ++i) {
    ASSIGN_OR_RETURN(out->messages.emplace_back(), Message(json[i], fmt::format("messages[{}]", i)));
  }
  return absl::OkStatus();
}

absl::Status ReadPrompt(const Json& json, OpenAiRequest* out) {
  if (!json.is_string()) return Wrong("prompt", "must be one string");
  PromptMessage& message = out->messages.emplace_back();
  message.set_role("user");
  message.set_content(json.get<std::string>());
  return absl::OkStatus();
}

absl::Status ReadStop(const Json& json, OpenAiRequest* out) {
  const Json texts = json.is_string() ? Json::array({json}) : json;
  if (!texts.is_array()) return Wrong("stop", "must be a string or an array of strings");
  if (texts.size() > kStopsMax) return Wrong("stop", fmt::format("{} texts, at most {}", texts.size(), kStopsMax));
  for (size_t i = 0; i < texts.size(); ++i) {
    ASSIGN_OR_RETURN(const std::string text, Text(texts[i], fmt::format("stop[{}]", i)));
    if (text.empty() || text.size() > kStopBytesMax) {
      return Wrong(fmt::format("stop[{}]", i), fmt::format("{} bytes, 1 to {}", text.size(), kStopBytesMax));
    }
    out->sampling.add_stop(text);
  }
  return absl::OkStatus();
}

absl::Status ReadStreamOptions(const Json& json, OpenAiRequest* out) {
  if (!json.is_object()) return Wrong("stream_options", "must be an object");
  for (const auto& [name, value] : json.items()) {
    if (value.is_null() || (name == "include_obfuscation" && value == false)) continue;
    if (name != "include_usage") return Wrong("stream_options." + name, "is not supported here; leave it out");
    ASSIGN_OR_RETURN(out->stream_usage, Truth(value, "stream_options.include_usage"));
  }
  return absl::OkStatus();
}

absl::Status ReadInputs(const Json& json, OpenAiRequest* out) {
  if (!json.is_object()) return Wrong("inputs", "must be an object of strings");
  for (const auto& [name, value] : json.items()) {
    ASSIGN_OR_RETURN(out->inputs[name], Text(value, "inputs." + name));
  }
  return absl::OkStatus();
}

// {"name", "schema", "strict"?, "description"?}, as OpenAI documents it. Whether strict or not, the text is held to the
// schema.
absl::Status ReadSchema(const Json& json, const std::string& field, deliberation::v1::OutputConstraint* out) {
  if (!json.is_object()) return Wrong(field, "must be an object with a name and a schema");
  std::string name;
  for (const auto& [key, value] : json.items()) {
    const std::string place = fmt::format("{}.{}", field, key);
    if (key == "name") {
      ASSIGN_OR_RETURN(name, Text(value, place));
      const bool plain = std::all_of(name.begin(), name.end(),
                                     [](unsigned char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-'; });
      if (!plain || name.size() > kSchemaNameBytesMax) {
        return Wrong(place, fmt::format("must be 1 to {} letters, digits, _ and -", kSchemaNameBytesMax));
      }
    } else if (key == "schema") {
      if (!value.is_object()) return Wrong(place, "must be a JSON Schema, an object");
      out->set_json_schema(http::WriteJson(value));
      if (out->json_schema().size() > kConstraintBytesMax) {
        return Wrong(place, fmt::format("{} bytes, at most {}", out->json_schema().size(), kConstraintBytesMax));
      }
    } else if (key == "strict") {
      if (!value.is_null()) RETURN_IF_ERROR(Truth(value, place).status());
    } else if (key == "description") {
      if (!value.is_null()) RETURN_IF_ERROR(Text(value, place).status());
    } else {
      return Wrong(place, "is not known");
    }
  }
  if (name.empty()) return Wrong(field + ".name", "is missing");
  if (!out->has_json_schema()) return Wrong(field + ".schema", "is missing");
  return absl::OkStatus();
}

absl::Status ReadResponseFormat(const Json& json, OpenAiRequest* out) {
  const std::string field = kResponseFormatField;
  if (!json.is_object()) return Wrong(field, "must be an object");
  const Json type = json.value("type", Json());
  const bool schema = type == "json_schema";
  for (const auto& [key, value] : json.items()) {
    if (key != "type" && !(schema && key == "json_schema"))
      return Wrong(fmt::format("{}.{}", field, key), "is not known");
  }
  if (type == "text") return absl::OkStatus();
  deliberation::v1::OutputConstraint constraint;
  if (type == "json_object") {
    constraint.set_json_schema(R"({"type":"object"})");
  } else if (schema) {
    RETURN_IF_ERROR(ReadSchema(json.value("json_schema", Json()), field + ".json_schema", &constraint));
  } else {
    return Wrong(field + ".type", "must be \"text\", \"json_object\" or \"json_schema\"");
  }
  out->constraint = std::make_shared<const deliberation::v1::OutputConstraint>(std::move(constraint));
  return absl::OkStatus();
}

// Numbers of the sampling. False: `name` is none.
absl::StatusOr<bool> ReadSampling(const std::string& name, const Json& value, OpenAiRequest* out) {
  deliberation::v1::SamplingDefaults& sampling = out->sampling;
  double real = 0;
  int64_t whole = 0;
  if (name == "temperature") {
    ASSIGN_OR_RETURN(real, Real(value, name, 0, 100));
    sampling.set_temperature(static_cast<float>(real));
  } else if (name == "top_p") {
    ASSIGN_OR_RETURN(real, Real(value, name, 1e-9, 1));
    sampling.set_top_p(static_cast<float>(real));
  } else if (name == "min_p") {
    ASSIGN_OR_RETURN(real, Real(value, name, 0, 0.999999));
    sampling.set_min_p(static_cast<float>(real));
  } else if (name == "repetition_penalty") {
    ASSIGN_OR_RETURN(real, Real(value, name, 1e-6, 10));
    sampling.set_repetition_penalty(static_cast<float>(real));
  } else if (name == "top_k") {
    ASSIGN_OR_RETURN(whole, Whole(value, name, 0, 1 << 30));
    sampling.set_top_k(static_cast<int32_t>(whole));
  } else if (name == "max_tokens" || name == "max_completion_tokens") {
    ASSIGN_OR_RETURN(whole, Whole(value, name, 1, 1 << 24));
    if (sampling.has_max_output_tokens() && sampling.max_output_tokens() != whole) {
      return Wrong(name, "max_tokens and max_completion_tokens are the same and differ here");
    }
    sampling.set_max_output_tokens(static_cast<int32_t>(whole));
  } else {
    return false;
  }
  return true;
}

// A field of the API that is not honoured here, and the values of it that ask for nothing.
struct Unhonoured {
  std::string_view name;
  bool (*harmless)(const Json& value);
  std::string_view instead;
};

bool IsEmpty(const Json& value) { return value.is_structured() && value.empty(); }
bool IsZero(const Json& value) { return value.is_number() && value.get<double>() == 0; }
bool IsFalse(const Json& value) { return value == false; }
bool IsTruth(const Json& value) { return value.is_boolean(); }
bool ChoosesNone(const Json& value) { return value == "none" || value == "auto"; }
bool Never(const Json&) { return false; }

constexpr std::string_view kNoTools =
    "members write text alone: describe the tools in the messages, ask for JSON by response_format, and leave it out";

constexpr Unhonoured kUnhonoured[] = {
    {"frequency_penalty", IsZero, "repetition_penalty is"},
    {"presence_penalty", IsZero, "repetition_penalty is"},
    {"logit_bias", IsEmpty, "leave it out"},
    {"tools", IsEmpty, kNoTools},
    {"tool_choice", ChoosesNone, kNoTools},
    {"parallel_tool_calls", IsTruth, kNoTools},
    {"functions", IsEmpty, kNoTools},
    {"function_call", ChoosesNone, kNoTools},
    {"modalities", [](const Json& value) { return value == Json::array({"text"}); }, "members write text alone"},
    {"audio", Never, "members write text alone"},
    {"prediction", Never, "leave it out"},
    {"reasoning_effort", Never, "a graph says how much is thought; leave it out"},
    {"verbosity", Never, "say it in the messages"},
    {"web_search_options", Never, "leave it out"},
    {"store", IsFalse, "a deliberation is kept in the orchestrator's own store"},
    {"metadata", IsEmpty, "nothing is stored under it; leave it out"},
    {"service_tier", [](const Json& value) { return value == "auto" || value == "default"; }, "leave it out"},
    // Of completions.
    {"echo", IsFalse, "leave it out"},
    {"suffix", [](const Json& value) { return value == ""; }, "leave it out"},
    {"best_of", [](const Json& value) { return value == 1; }, "ask a graph that picks, e.g. best_of_n"},
};

// What asks for something that is not here, unless its value asks for nothing. False: `name` is none.
absl::StatusOr<bool> RefuseUnhonoured(const std::string& name, const Json& value) {
  for (const Unhonoured& field : kUnhonoured) {
    if (field.name != name) continue;
    if (field.harmless(value)) return true;
    return Wrong(name, fmt::format("is not supported here; {}", field.instead));
  }
  return false;
}

// Chat has "logprobs": true and "top_logprobs": N, completions "logprobs": N.
absl::Status ReadLogprobs(const Json& json, OpenAiApi api, OpenAiRequest* out) {
  const Json wanted = json.value(kLogprobsField, Json()), top = json.value("top_logprobs", Json());
  if (api == OpenAiApi::kCompletions) {
    if (wanted.is_null() || wanted == false) return absl::OkStatus();
    ASSIGN_OR_RETURN(const int64_t best, Whole(wanted, kLogprobsField, 0, kLogprobsMax));
    out->logprobs = static_cast<int32_t>(best);
    return absl::OkStatus();
  }
  bool told = false;
  int64_t best = 0;
  if (!wanted.is_null()) {
    ASSIGN_OR_RETURN(told, Truth(wanted, kLogprobsField));
  }
  if (!top.is_null()) {
    ASSIGN_OR_RETURN(best, Whole(top, "top_logprobs", 0, kLogprobsMax));
  }
  if (best > 0 && !told) return Wrong("top_logprobs", "goes with \"logprobs\": true");
  if (told) out->logprobs = static_cast<int32_t>(best);
  return absl::OkStatus();
}

absl::Status ReadField(const std::string& name, const Json& value, OpenAiApi api, OpenAiRequest* out) {
  if (name == "model") {
    ASSIGN_OR_RETURN(out->model, Text(value, name));
  } else if (name == "messages" && api == OpenAiApi::kChat) {
    return ReadMessages(value, out);
  } else if (name == "prompt" && api == OpenAiApi::kCompletions) {
    return ReadPrompt(value, out);
  } else if (name == kResponseFormatField && api == OpenAiApi::kChat) {
    return ReadResponseFormat(value, out);
  } else if (name == "stream") {
    ASSIGN_OR_RETURN(out->stream, Truth(value, name));
  } else if (name == "stream_options") {
    return ReadStreamOptions(value, out);
  } else if (name == "stop") {
    return ReadStop(value, out);
  } else if (name == "seed") {
    ASSIGN_OR_RETURN(const int64_t seed,
                     Whole(value, name, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()));
    out->seed = static_cast<uint64_t>(seed);
  } else if (name == "n") {
    ASSIGN_OR_RETURN(const int64_t choices, Whole(value, name, 1, kChoicesMax));
    out->choices = static_cast<int32_t>(choices);
  } else if (name == "ignore_eos") {
    ASSIGN_OR_RETURN(out->ignore_eos, Truth(value, name));
  } else if (name == "inputs") {
    return ReadInputs(value, out);
  } else if (name == "user" || name == "safety_identifier" || name == "prompt_cache_key") {
    return Text(value, name).status();  // who asks on the caller's side; nothing here depends on it
  } else if (name == kLogprobsField || (name == "top_logprobs" && api == OpenAiApi::kChat)) {
    return absl::OkStatus();  // ReadLogprobs reads both together
  } else {
    ASSIGN_OR_RETURN(const bool sampling, ReadSampling(name, value, out));
    if (sampling) return absl::OkStatus();
    ASSIGN_OR_RETURN(const bool harmless, RefuseUnhonoured(name, value));
    if (!harmless) return Wrong(name, "is not a field that is known here");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OpenAiRequest> ReadOpenAiRequest(std::string_view body, OpenAiApi api) {
  ASSIGN_OR_RETURN(const Json json, http::ParseJson(body));
  if (!json.is_object()) return InvalidArgument("the body must be a JSON object");
  OpenAiRequest out;
  for (const auto& [name, value] : json.items()) {
    if (!value.is_null()) RETURN_IF_ERROR(ReadField(name, value, api, &out));
  }
  RETURN_IF_ERROR(ReadLogprobs(json, api, &out));
  if (out.model.empty()) return Wrong("model", "is missing; GET /v1/models lists them");
  if (out.messages.empty()) return Wrong(api == OpenAiApi::kChat ? "messages" : "prompt", "is missing");
  if (out.stream_usage && !out.stream) return Wrong("stream_options", "goes with \"stream\": true");
  return out;
}

std::string QuestionOf(const OpenAiRequest& request) {
  if (request.messages.size() == 1) return request.messages[0].content();
  std::string text;
  for (const PromptMessage& message : request.messages) {
    if (!text.empty()) text += "\n\n";
    if (message.role() == "user") text += "User: ";
    if (message.role() == "assistant") text += "Assistant: ";
    text += message.content();
  }
  return text;
}

}  // namespace conclave::orchestrator
