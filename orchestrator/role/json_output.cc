// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/role/json_output.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "common/jinja/json.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;
using Json = nlohmann::ordered_json;

// Read with a limit on its nesting; nullopt for what is no JSON.
std::optional<Json> Parse(std::string_view text) {
  bool deep = false;
  const Json::parser_callback_t callback = [&](int depth, Json::parse_event_t event, Json&) {
    const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    deep |= opens && depth >= kJsonOutputDepthMax;
    return !deep;
  };
  Json json = Json::parse(text.begin(), text.end(), callback, /*allow_exceptions=*/false);
  if (deep || !json.is_object()) return std::nullopt;
  return json;
}

std::optional<double> InRange(std::optional<double> number, double max) {
  if (!number.has_value() || !(*number >= 0 && *number <= max)) return std::nullopt;
  return *number / max;
}

}  // namespace

JsonOutput::JsonOutput() = default;
JsonOutput::~JsonOutput() = default;
JsonOutput::JsonOutput(JsonOutput&&) noexcept = default;
JsonOutput& JsonOutput::operator=(JsonOutput&&) noexcept = default;

std::optional<JsonOutput> JsonOutput::Read(std::string_view text) {
  const std::string_view shown = WithoutReasoning(text);
  const size_t begin = shown.find('{'), end = shown.rfind('}');
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) return std::nullopt;
  std::optional<Json> json = Parse(shown.substr(begin, end - begin + 1));
  if (!json.has_value()) return std::nullopt;
  absl::StatusOr<jinja::Value> fields = jinja::FromJson(*json, jinja::Author::kProgram);
  if (!fields.ok()) return std::nullopt;  // an integer that no 64 bits hold
  JsonOutput output;
  output.object_ = std::make_unique<Json>(*std::move(json));
  output.fields_ = *std::move(fields);
  return output;
}

const Json* JsonOutput::At(std::string_view path) const {
  const Json* at = object_.get();
  while (true) {
    const size_t dot = path.find('.');
    if (!at->is_object()) return nullptr;
    const auto found = at->find(std::string(path.substr(0, dot)));
    if (found == at->end()) return nullptr;
    at = &*found;
    if (dot == std::string_view::npos) return at;
    path.remove_prefix(dot + 1);
  }
}

std::optional<std::string> JsonOutput::TextAt(std::string_view path) const {
  const Json* at = At(path);
  if (at == nullptr || !(at->is_string() || at->is_number() || at->is_boolean())) return std::nullopt;
  return at->is_string() ? at->get<std::string>() : at->dump();
}

std::optional<double> JsonOutput::NumberAt(std::string_view path) const {
  const Json* at = At(path);
  if (at == nullptr || !at->is_number()) return std::nullopt;
  return at->get<double>();
}

Reading ReadJsonVerdict(const pb::Role& role, const VerdictReader& reader, const JsonOutput& output) {
  const std::optional<std::string> verdict = output.TextAt(role.json().verdict());
  if (!verdict.has_value()) return {};
  Reading reading = reader.Read(*verdict);
  if (!reading.accept.has_value() && (*verdict == "true" || *verdict == "false")) {
    reading.accept = *verdict == "true";
    reading.score = *reading.accept ? 1 : 0;
  }
  if (role.json().score().empty() || !reading.accept.has_value()) return reading;
  const double max = role.verdict().has_score_max() ? role.verdict().score_max() : 1;
  reading.score = InRange(output.NumberAt(role.json().score()), max);
  return reading.score.has_value() ? reading : Reading();
}

std::optional<double> ReadJsonConfidence(const pb::Role& role, const JsonOutput& output) {
  const double max = role.answer().has_confidence_max() ? role.answer().confidence_max() : 1;
  return InRange(output.NumberAt(role.json().confidence()), max);
}

std::optional<std::string> ReadJsonLabel(const pb::Role& role, const JsonOutput& output) {
  const std::optional<std::string> text = output.TextAt(role.json().label());
  return text.has_value() ? ReadLabel(role.label(), *text) : std::nullopt;
}

std::vector<std::string> CheckJson(const pb::Role& role) {
  std::vector<std::string> errors;
  const pb::JsonFields& json = role.json();
  const auto check = [&](const char* name, const std::string& path, bool wanted, bool required) {
    if (!wanted && !path.empty()) {
      errors.push_back(
          fmt::format("json names a {}, and the contract reads none; remove {}: \"{}\"", name, name, path));
    }
    if (wanted && required && path.empty()) {
      errors.push_back(
          fmt::format("json does not say where the {} is; add {}: \"{}\", a field of the object", name, name, name));
    }
    const bool hole = path.starts_with('.') || path.ends_with('.') || path.find("..") != std::string::npos;
    if (hole || path.size() > kJsonPathBytesMax) {
      errors.push_back(fmt::format("json has {}: \"{}\"; a field, or fields joined by dots, of at most {} bytes", name,
                                   path, kJsonPathBytesMax));
    }
  };
  check("answer", json.answer(), role.has_answer(), true);
  check("confidence", json.confidence(), role.has_answer(), false);
  check("verdict", json.verdict(), role.has_verdict(), true);
  check("score", json.score(), role.has_verdict(), false);
  check("label", json.label(), role.has_label(), true);
  if (role.has_ranking() || role.has_items()) {
    errors.push_back("json is for answers, verdicts, labels and texts; remove json, or change the contract");
  }
  if (!role.verdict().criterion().empty()) errors.push_back("json and criteria at once; remove one of them");
  if (!role.verdict().score_after().empty()) errors.push_back("json and score_after at once; name the field: score");
  if (!role.answer().confidence_after().empty()) {
    errors.push_back("json and confidence_after at once; name the field: confidence");
  }
  return errors;
}

}  // namespace conclave::orchestrator
