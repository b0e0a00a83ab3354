// SPDX-License-Identifier: Apache-2.0
// Outputs that are one JSON object, and what a role's contract finds in their fields.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/jinja/value.h"
#include "conclave/deliberation/v1/role.pb.h"
#include "orchestrator/role/contract.h"

namespace conclave::orchestrator {

inline constexpr int kJsonOutputDepthMax = 32;    // objects and lists in one another, the outermost counted
inline constexpr size_t kJsonPathBytesMax = 256;  // "result.value"

// One object, read once.
class JsonOutput {
 public:
  // The object from the first { to the last } of what follows the reasoning; nullopt: there is none, or it is nested
  // too deep, or it is more than an object.
  static std::optional<JsonOutput> Read(std::string_view text);
  ~JsonOutput();
  JsonOutput(JsonOutput&&) noexcept;
  JsonOutput& operator=(JsonOutput&&) noexcept;

  // What stands at a path, names joined by dots: a string's text, a number or truth value as JSON writes it. Nothing
  // for lists, objects, null and what is not there.
  std::optional<std::string> TextAt(std::string_view path) const;
  std::optional<double> NumberAt(std::string_view path) const;
  // All of it, for templates and conditions.
  const jinja::Value& fields() const { return fields_; }

 private:
  JsonOutput();
  const nlohmann::ordered_json* At(std::string_view path) const;

  std::unique_ptr<nlohmann::ordered_json> object_;
  jinja::Value fields_;
};

// A verdict in its fields: the role's phrases, else a truth value; empty where it is neither, or its `score` is no
// number in [0, score_max].
Reading ReadJsonVerdict(const deliberation::v1::Role& role, const VerdictReader& reader, const JsonOutput& output);
// How sure the writer says it is, in [0, 1].
std::optional<double> ReadJsonConfidence(const deliberation::v1::Role& role, const JsonOutput& output);
// One of the options, compared without case.
std::optional<std::string> ReadJsonLabel(const deliberation::v1::Role& role, const JsonOutput& output);

// What is wrong with a role's `json`, one "what; fix" each.
std::vector<std::string> CheckJson(const deliberation::v1::Role& role);

}  // namespace conclave::orchestrator
