// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/jinja.h"

#include "common/jinja/error.h"
#include "common/jinja/evaluator.h"
#include "common/jinja/free_paths.h"
#include "common/jinja/parser.h"
#include "common/jinja/scope.h"

namespace conclave::jinja {
namespace {

absl::Status CheckSource(std::string_view source) {
  if (source.size() <= kMaxSourceBytes) return absl::OkStatus();
  return InvalidArgument("TEMPLATE_LIMIT: a source of {} bytes, at most {} allowed", source.size(), kMaxSourceBytes);
}

absl::Status CheckContext(const Value& context) {
  if (!context.IsDict()) return Raise(ErrorType::kTypeError, "the context is a {}, not a dict", context.TypeName());
  if (context.Depth() <= kMaxDepth) return absl::OkStatus();
  return InvalidArgument("TEMPLATE_LIMIT: a context nested {} deep, at most {} allowed", context.Depth(), kMaxDepth);
}

}  // namespace

struct Template::Parsed {
  Tree tree;
  std::vector<std::string> free_paths;
};

struct Expression::Parsed {
  ExpressionPtr expression;
  Scope scope;
  uint32_t slots = 0;
  std::vector<std::string> free_paths;
};

Template::Template() : parsed_(std::make_shared<Parsed>()) {}

absl::StatusOr<Template> Template::Parse(std::string_view source, const ParseOptions& options) {
  RETURN_IF_ERROR(CheckSource(source));
  auto parsed = std::make_shared<Parsed>();
  const WhitespaceRules rules{options.trim_blocks, options.lstrip_blocks, options.keep_trailing_newline};
  ASSIGN_OR_RETURN(parsed->tree, ParseTemplate(source, rules, kMaxDepth));
  RETURN_IF_ERROR(ResolveScopes(&parsed->tree));
  parsed->free_paths = jinja::FreePaths(parsed->tree);
  Template result;
  result.parsed_ = std::move(parsed);
  return result;
}

absl::StatusOr<Rendered> Template::Render(const Value& context, const RenderOptions& options) const {
  RETURN_IF_ERROR(CheckContext(context));
  Runtime runtime(options.limits, options.now_unix_seconds);
  Evaluator evaluator(runtime, context.AsDict());
  absl::StatusOr<Text> text = evaluator.Render(parsed_->tree);
  if (!text.ok()) return AtPosition(text.status(), evaluator.position().line, evaluator.position().column);
  return Rendered{std::move(text->bytes), std::move(text->user)};
}

const std::vector<std::string>& Template::FreePaths() const { return parsed_->free_paths; }

absl::StatusOr<Expression> Expression::Parse(std::string_view source) {
  RETURN_IF_ERROR(CheckSource(source));
  auto parsed = std::make_shared<Parsed>();
  ASSIGN_OR_RETURN(parsed->expression, ParseExpression(source, kMaxDepth));
  RETURN_IF_ERROR(ResolveScopes(parsed->expression.get(), &parsed->scope, &parsed->slots));
  parsed->free_paths = jinja::FreePaths(*parsed->expression);
  return Expression(std::move(parsed));
}

absl::StatusOr<Value> Expression::Evaluate(const Value& context, const RenderOptions& options) const {
  RETURN_IF_ERROR(CheckContext(context));
  Runtime runtime(options.limits, options.now_unix_seconds);
  Evaluator evaluator(runtime, context.AsDict());
  absl::StatusOr<Value> value = evaluator.Evaluate(*parsed_->expression, parsed_->scope, parsed_->slots);
  if (!value.ok()) return AtPosition(value.status(), evaluator.position().line, evaluator.position().column);
  return value;
}

absl::StatusOr<bool> Expression::Test(const Value& context, const RenderOptions& options) const {
  ASSIGN_OR_RETURN(const Value value, Evaluate(context, options));
  if (value.IsUndefined()) return UndefinedError(value);
  return value.Truthy();
}

const std::vector<std::string>& Expression::FreePaths() const { return parsed_->free_paths; }

}  // namespace conclave::jinja
