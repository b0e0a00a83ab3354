// SPDX-License-Identifier: Apache-2.0
// Jinja2: the one template language of the house, for chat templates of models, for prompts and for graph conditions.
//
//   ASSIGN_OR_RETURN(const Template chat, Template::Parse(source));
//   Value context = Value::Object({{"messages", messages}, {"add_generation_prompt", Value::Bool(true)}});
//   ASSIGN_OR_RETURN(Rendered prompt, chat.Render(context, {.now_unix_seconds = now}));
//
// Renders what Python's jinja2 3.1 renders in the environment of Hugging Face chat templates: trim_blocks,
// lstrip_blocks, loop controls, the immutable sandbox, raise_exception, strftime_now, tojson without HTML escaping,
// {% generation %} as a plain block. There is nothing to load from: include, import and extends fail when reached.
// Known differences: integers are 64-bit, `random`, `lipsum`, `striptags` and `urlize` are absent, time is UTC.
//
// Errors are INVALID_ARGUMENT, worded as Python words them, with the place in the source:
//   "UndefinedError: 'tools' is undefined (line 3, column 12)".
// A template that spends more than it may (budget.h) fails with a message that begins with "TEMPLATE_LIMIT".
//
// User text (Value::UserText) stays marked through every operation, so that the tokenizer can refuse to read special
// tokens in it. Templates and expressions are immutable: one may render on many threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/budget.h"
#include "common/jinja/value.h"

namespace conclave::jinja {

struct ParseOptions {
  bool trim_blocks = true;             // the first newline after a block tag goes
  bool lstrip_blocks = true;           // white space before a block tag that begins its line goes
  bool keep_trailing_newline = false;  // else one newline at the end of the source goes
};

struct RenderOptions {
  int64_t now_unix_seconds = 0;  // what strftime_now reads, as UTC; inject it, so that a rendering can be repeated
  Limits limits;
};

struct Rendered {
  std::string text;
  // The bytes of `text` that came from user text: sorted, disjoint. No special token may be read inside them, nor
  // across their borders.
  std::vector<ByteRange> user_ranges;
};

class Template {
 public:
  // An empty template.
  Template();
  // Errors: TemplateSyntaxError, TemplateAssertionError (an unknown filter), TEMPLATE_LIMIT.
  static absl::StatusOr<Template> Parse(std::string_view source, const ParseOptions& options = {});

  // `context` is a dict, its keys the variables.
  absl::StatusOr<Rendered> Render(const Value& context, const RenderOptions& options = {}) const;

  // What the template reads from its context, as dotted paths, sorted: {"messages", "verify.mean_score"}. Names it sets
  // itself are left out, the built-in functions too.
  const std::vector<std::string>& FreePaths() const;

 private:
  struct Parsed;
  std::shared_ptr<const Parsed> parsed_;
};

// One expression, as it stands between {{ and }}: "votes.margin >= 0.6 or round >= 3".
class Expression {
 public:
  static absl::StatusOr<Expression> Parse(std::string_view source);

  // May be undefined (Value::IsUndefined), as `a.b` is where there is no b.
  absl::StatusOr<Value> Evaluate(const Value& context, const RenderOptions& options = {}) const;
  // Python's truth of the value; an undefined value is an error here, as a condition hardly means it.
  absl::StatusOr<bool> Test(const Value& context, const RenderOptions& options = {}) const;

  const std::vector<std::string>& FreePaths() const;

 private:
  struct Parsed;
  explicit Expression(std::shared_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}
  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace conclave::jinja
