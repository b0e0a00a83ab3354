// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/role/script.h"

#include <algorithm>

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

std::string_view Head(std::string_view path) { return path.substr(0, path.find('.')); }

}  // namespace

absl::StatusOr<PromptTemplate> PromptTemplate::Parse(std::string_view source) {
  PromptTemplate parsed;
  ASSIGN_OR_RETURN(parsed.template_, jinja::Template::Parse(source));
  for (const std::string& path : parsed.template_.FreePaths()) parsed.names_.emplace_back(Head(path));
  std::sort(parsed.names_.begin(), parsed.names_.end());
  parsed.names_.erase(std::unique(parsed.names_.begin(), parsed.names_.end()), parsed.names_.end());
  return parsed;
}

absl::StatusOr<std::string> PromptTemplate::Render(const jinja::Value& variables) const {
  ASSIGN_OR_RETURN(jinja::Rendered rendered, template_.Render(variables));
  return std::move(rendered.text);
}

bool PromptTemplate::Reads(std::string_view name) const {
  return std::binary_search(names_.begin(), names_.end(), name);
}

absl::StatusOr<Expression> Expression::Parse(std::string_view source) {
  ASSIGN_OR_RETURN(jinja::Expression parsed, jinja::Expression::Parse(source));
  return Expression(std::move(parsed), source);
}

absl::StatusOr<jinja::Value> Expression::Evaluate(const jinja::Value& variables) const {
  return expression_.Evaluate(variables);
}

bool Expression::Reads(std::string_view name) const {
  return std::any_of(paths().begin(), paths().end(), [&](const std::string& path) { return Head(path) == name; });
}

}  // namespace conclave::orchestrator
