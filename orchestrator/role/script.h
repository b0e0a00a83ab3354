// SPDX-License-Identifier: Apache-2.0
// Jinja as roles and graphs use it: parsed once, rendered or evaluated any number of times, within limits, without a
// clock, so that a prompt depends on its variables alone. Immutable, cheap to copy, usable by several threads at once.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/jinja.h"

namespace conclave::orchestrator {

class PromptTemplate {
 public:
  // INVALID_ARGUMENT with line and column inside `source`.
  static absl::StatusOr<PromptTemplate> Parse(std::string_view source);
  // `variables` is a dict.
  absl::StatusOr<std::string> Render(const jinja::Value& variables) const;
  // Variables it takes from outside, sorted.
  const std::vector<std::string>& names() const { return names_; }
  bool Reads(std::string_view name) const;

 private:
  jinja::Template template_;
  std::vector<std::string> names_;
};

// A condition or a weight.
class Expression {
 public:
  static absl::StatusOr<Expression> Parse(std::string_view source);
  absl::StatusOr<jinja::Value> Evaluate(const jinja::Value& variables) const;
  // What it reads, as dotted paths: "round", "votes.margin", ..
  const std::vector<std::string>& paths() const { return expression_.FreePaths(); }
  // Whether it reads `name` or a part of it.
  bool Reads(std::string_view name) const;
  const std::string& source() const { return source_; }

 private:
  Expression(jinja::Expression expression, std::string_view source)
      : expression_(std::move(expression)), source_(source) {}
  jinja::Expression expression_;
  std::string source_;
};

}  // namespace conclave::orchestrator
