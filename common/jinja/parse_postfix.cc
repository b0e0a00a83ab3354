// SPDX-License-Identifier: Apache-2.0
// What may follow a value: attributes, items, slices, calls, filters, tests.
#include "common/jinja/parser_core.h"

namespace conclave::jinja {
namespace {

// Appends a step to a chain of steps, or starts one.
ExpressionPtr WithStep(ExpressionPtr base, PostfixStep step) {
  if (base != nullptr && base->kind == ExpressionKind::kPostfix) {
    static_cast<PostfixExpression&>(*base).steps.push_back(std::move(step));
    return base;
  }
  auto chain = std::make_unique<PostfixExpression>(base != nullptr ? base->at : step.at);
  chain->base = std::move(base);
  chain->steps.push_back(std::move(step));
  return chain;
}

}  // namespace

absl::StatusOr<ExpressionPtr> ExpressionParser::Postfix(ExpressionPtr base) {
  while (true) {
    if (stream_.IsOperator(".") || stream_.IsOperator("[")) {
      ASSIGN_OR_RETURN(base, Subscript(std::move(base)));
    } else if (stream_.IsOperator("(")) {
      ASSIGN_OR_RETURN(base, Call(std::move(base)));
    } else {
      return base;
    }
  }
}

absl::StatusOr<ExpressionPtr> ExpressionParser::FilterExpressions(ExpressionPtr base) {
  while (true) {
    if (stream_.IsOperator("|")) {
      ASSIGN_OR_RETURN(base, Filters(std::move(base), false));
    } else if (stream_.IsName("is")) {
      ASSIGN_OR_RETURN(base, Test(std::move(base)));
    } else if (stream_.IsOperator("(")) {
      ASSIGN_OR_RETURN(base, Call(std::move(base)));
    } else {
      return base;
    }
  }
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Subscript(ExpressionPtr base) {
  PostfixStep step;
  step.at = stream_.Current().at;
  if (stream_.TakeOperator(".")) {
    const Token token = stream_.Current();
    stream_.Skip();
    if (token.kind == TokenKind::kName) {
      step.kind = PostfixStep::Kind::kAttribute;
      step.name = Value::String(token.text);
    } else if (token.kind == TokenKind::kInteger) {
      step.kind = PostfixStep::Kind::kItem;
      step.index = std::make_unique<ConstantExpression>(token.at, Value::Int(token.integer));
    } else {
      return stream_.Fail(token.at, "expected name or number");
    }
    return WithStep(std::move(base), std::move(step));
  }
  stream_.Skip();
  auto tuple = std::make_unique<SequenceExpression>(ExpressionKind::kTuple, step.at);
  while (!stream_.IsOperator("]")) {
    if (step.index != nullptr || step.kind == PostfixStep::Kind::kSlice) {
      RETURN_IF_ERROR(stream_.ExpectOperator(","));
      if (step.kind == PostfixStep::Kind::kSlice) return stream_.Fail(step.at, "a slice cannot be part of a tuple");
      tuple->items.push_back(std::move(step.index));
    }
    RETURN_IF_ERROR(Subscripted(&step));
  }
  stream_.Skip();
  if (!tuple->items.empty()) {
    if (step.index != nullptr) tuple->items.push_back(std::move(step.index));
    step.index = std::move(tuple);
  } else if (step.index == nullptr && step.kind != PostfixStep::Kind::kSlice) {
    step.index = std::move(tuple);  // x[]: the empty tuple
  }
  if (step.kind != PostfixStep::Kind::kSlice) step.kind = PostfixStep::Kind::kItem;
  return WithStep(std::move(base), std::move(step));
}

// One index or slice between the brackets.
absl::Status ExpressionParser::Subscripted(PostfixStep* step) {
  if (!stream_.IsOperator(":")) {
    ASSIGN_OR_RETURN(step->index, Expression());
    if (!stream_.IsOperator(":")) return absl::OkStatus();
  }
  step->kind = PostfixStep::Kind::kSlice;
  stream_.Skip();
  auto at_end = [&] { return stream_.IsOperator("]") || stream_.IsOperator(","); };
  if (!stream_.IsOperator(":") && !at_end()) {
    ASSIGN_OR_RETURN(step->stop, Expression());
  }
  if (stream_.TakeOperator(":") && !at_end()) {
    ASSIGN_OR_RETURN(step->step, Expression());
  }
  return absl::OkStatus();
}

absl::StatusOr<CallArguments> ExpressionParser::Arguments() {
  const Position at = stream_.Current().at;
  RETURN_IF_ERROR(stream_.ExpectOperator("("));
  CallArguments arguments;
  bool comma = false;
  auto ensure = [&](bool holds) {
    return holds ? absl::OkStatus() : stream_.Fail(at, "invalid syntax for function call expression");
  };
  while (!stream_.IsOperator(")")) {
    if (comma) {
      RETURN_IF_ERROR(stream_.ExpectOperator(","));
      if (stream_.IsOperator(")")) break;
    }
    const bool no_stars = arguments.more_positional == nullptr && arguments.more_named == nullptr;
    if (stream_.TakeOperator("*")) {
      RETURN_IF_ERROR(ensure(no_stars));
      ASSIGN_OR_RETURN(arguments.more_positional, Expression());
    } else if (stream_.TakeOperator("**")) {
      RETURN_IF_ERROR(ensure(arguments.more_named == nullptr));
      ASSIGN_OR_RETURN(arguments.more_named, Expression());
    } else if (stream_.Is(TokenKind::kName) && stream_.Ahead().kind == TokenKind::kOperator &&
               stream_.Ahead().text == "=") {
      RETURN_IF_ERROR(ensure(arguments.more_named == nullptr));
      Value name = Value::String(stream_.Current().text);
      stream_.Skip();
      stream_.Skip();
      ASSIGN_OR_RETURN(ExpressionPtr value, Expression());
      arguments.named.emplace_back(std::move(name), std::move(value));
    } else {
      RETURN_IF_ERROR(ensure(no_stars && arguments.named.empty()));
      ASSIGN_OR_RETURN(ExpressionPtr value, Expression());
      arguments.positional.push_back(std::move(value));
    }
    comma = true;
  }
  stream_.Skip();
  return arguments;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Call(ExpressionPtr base) {
  PostfixStep step;
  step.kind = PostfixStep::Kind::kCall;
  step.at = stream_.Current().at;
  ASSIGN_OR_RETURN(step.arguments, Arguments());
  return WithStep(std::move(base), std::move(step));
}

absl::StatusOr<std::string> ExpressionParser::DottedName() {
  ASSIGN_OR_RETURN(Token token, stream_.ExpectAnyName());
  std::string name = std::move(token.text);
  while (stream_.TakeOperator(".")) {
    ASSIGN_OR_RETURN(const Token more, stream_.ExpectAnyName());
    name += "." + more.text;
  }
  return name;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Filters(ExpressionPtr input, bool first_bare) {
  while (first_bare || stream_.TakeOperator("|")) {
    first_bare = false;
    PostfixStep step;
    step.kind = PostfixStep::Kind::kFilter;
    step.at = stream_.Current().at;
    ASSIGN_OR_RETURN(std::string name, DottedName());
    step.filter = FindFilter(name);
    step.name = Value::String(std::move(name));
    if (stream_.IsOperator("(")) {
      ASSIGN_OR_RETURN(step.arguments, Arguments());
    }
    input = WithStep(std::move(input), std::move(step));
  }
  return input;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Test(ExpressionPtr base) {
  PostfixStep step;
  step.kind = PostfixStep::Kind::kTest;
  step.at = stream_.Current().at;
  stream_.Skip();
  step.negated = stream_.TakeName("not");
  ASSIGN_OR_RETURN(std::string name, DottedName());
  step.test = FindTest(name);
  step.name = Value::String(std::move(name));
  const Token& next = stream_.Current();
  const bool literal = next.kind == TokenKind::kName || next.kind == TokenKind::kString ||
                       next.kind == TokenKind::kInteger || next.kind == TokenKind::kFloat || stream_.IsOperator("[") ||
                       stream_.IsOperator("{");
  if (stream_.IsOperator("(")) {
    ASSIGN_OR_RETURN(step.arguments, Arguments());
  } else if (literal && !stream_.IsName("else") && !stream_.IsName("or") && !stream_.IsName("and")) {
    if (stream_.IsName("is")) return stream_.Fail(next.at, "You cannot chain multiple tests with is");
    const TokenStream::Level level(stream_);
    if (level.TooDeep()) return stream_.FailDepth();
    ASSIGN_OR_RETURN(ExpressionPtr argument, Primary(false, false));
    ASSIGN_OR_RETURN(argument, Postfix(std::move(argument)));
    step.arguments.positional.push_back(std::move(argument));
  }
  return WithStep(std::move(base), std::move(step));
}

}  // namespace conclave::jinja
