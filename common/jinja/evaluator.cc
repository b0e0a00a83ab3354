// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/evaluator.h"

#include "common/jinja/methods.h"
#include "common/jinja/printing.h"

namespace conclave::jinja {
namespace {

bool IsPlainText(const Value& value) { return value.IsString() && !value.AsText().markup; }

}  // namespace

absl::StatusOr<Value> Evaluator::Eval(const Node& node) {
  RETURN_IF_ERROR(runtime_.budget().Step());
  if (node.kind == ExpressionKind::kConstant) return static_cast<const ConstantExpression&>(node).value;
  if (node.kind == ExpressionKind::kName) {
    const auto& name = static_cast<const NameExpression&>(node);
    const Value& value = Slot(name.variable);
    position_ = node.at;
    return value.IsMissing() ? name.undefined : value;
  }
  const Nesting nesting(runtime_);
  RETURN_IF_ERROR(nesting.Check());
  return EvalCompound(node);
}

absl::StatusOr<Value> Evaluator::EvalCompound(const Node& node) {
  switch (node.kind) {
    case ExpressionKind::kList:
    case ExpressionKind::kTuple:
      return EvalSequence(static_cast<const SequenceExpression&>(node));
    case ExpressionKind::kDict:
      return EvalDict(static_cast<const DictExpression&>(node));
    case ExpressionKind::kUnary:
      return EvalUnary(static_cast<const UnaryExpression&>(node));
    case ExpressionKind::kArithmetic:
      return EvalArithmetic(static_cast<const ArithmeticExpression&>(node));
    case ExpressionKind::kLogical:
      return EvalLogical(static_cast<const LogicalExpression&>(node));
    case ExpressionKind::kComparison:
      return EvalComparison(static_cast<const ComparisonExpression&>(node));
    case ExpressionKind::kConcatenation:
      return EvalConcatenation(static_cast<const ConcatenationExpression&>(node));
    case ExpressionKind::kConditional:
      return EvalConditional(static_cast<const ConditionalExpression&>(node));
    case ExpressionKind::kPostfix:
      return EvalPostfix(static_cast<const PostfixExpression&>(node), Value(), nullptr);
    default:
      return Raise(ErrorType::kTemplateRuntimeError, "a target of an assignment has no value");
  }
}

absl::StatusOr<Value> Evaluator::EvalOptional(const ExpressionPtr& node) {
  if (node == nullptr) return Value();
  return Eval(*node);
}

absl::StatusOr<Value> Evaluator::EvalSequence(const SequenceExpression& node) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExpressionPtr& item : node.items) {
    ASSIGN_OR_RETURN(Value value, Eval(*item));
    items.push_back(std::move(value));
  }
  return node.kind == ExpressionKind::kList ? runtime_.NewList(std::move(items)) : runtime_.NewTuple(std::move(items));
}

absl::StatusOr<Value> Evaluator::EvalDict(const DictExpression& node) {
  Dict dict;
  for (const auto& [key_node, value_node] : node.entries) {
    ASSIGN_OR_RETURN(Value key, Eval(*key_node));
    ASSIGN_OR_RETURN(Value value, Eval(*value_node));
    position_ = key_node->at;
    if (!IsHashable(key)) return Raise(ErrorType::kTypeError, "unhashable type: '{}'", key.TypeName());
    dict.Set(std::move(key), std::move(value), runtime_.budget());
  }
  return runtime_.NewDict(std::move(dict));
}

absl::StatusOr<Value> Evaluator::EvalUnary(const UnaryExpression& node) {
  ASSIGN_OR_RETURN(const Value operand, Eval(*node.operand));
  position_ = node.at;
  switch (node.op) {
    case UnaryExpression::Operator::kNot:
      return Value::Bool(!operand.Truthy());
    case UnaryExpression::Operator::kNegate:
      return Negate(operand);
    case UnaryExpression::Operator::kPlus:
      return Plus(operand);
  }
  return Value();
}

absl::StatusOr<Value> Evaluator::EvalArithmetic(const ArithmeticExpression& node) {
  ASSIGN_OR_RETURN(Value left, Eval(*node.first));
  TextBuilder joined;  // strings added in a row are joined once
  bool joining = false;
  for (const auto& [op, operand] : node.rest) {
    ASSIGN_OR_RETURN(const Value right, Eval(*operand));
    position_ = operand->at;
    if (op == BinaryOperator::kAdd && IsPlainText(right) && (joining || IsPlainText(left))) {
      if (!joining) joined.Append(left.AsText());
      joining = true;
      joined.Append(right.AsText());
      RETURN_IF_ERROR(runtime_.budget().CheckLength(joined.size()));
      RETURN_IF_ERROR(runtime_.budget().Scan(right.AsString().size()));
      continue;
    }
    if (joining) {
      ASSIGN_OR_RETURN(left, runtime_.NewText(joined.Take()));
      joined = TextBuilder();
      joining = false;
    }
    ASSIGN_OR_RETURN(left, Apply(runtime_, op, left, right));
  }
  if (joining) return runtime_.NewText(joined.Take());
  return left;
}

absl::StatusOr<Value> Evaluator::EvalLogical(const LogicalExpression& node) {
  Value value;
  for (const ExpressionPtr& operand : node.operands) {
    ASSIGN_OR_RETURN(value, Eval(*operand));
    if (value.Truthy() != node.is_and) break;
  }
  return value;
}

absl::StatusOr<Value> Evaluator::EvalComparison(const ComparisonExpression& node) {
  ASSIGN_OR_RETURN(Value left, Eval(*node.first));
  for (const auto& [op, operand] : node.rest) {
    ASSIGN_OR_RETURN(Value right, Eval(*operand));
    position_ = operand->at;
    ASSIGN_OR_RETURN(const bool holds, Compare(runtime_, op, left, right));
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

absl::StatusOr<Value> Evaluator::EvalConcatenation(const ConcatenationExpression& node) {
  TextBuilder out;
  for (const ExpressionPtr& item : node.items) {
    ASSIGN_OR_RETURN(const Value value, Eval(*item));
    RETURN_IF_ERROR(AppendStr(runtime_, value, &out));
  }
  return runtime_.NewText(out.Take());
}

absl::StatusOr<Value> Evaluator::EvalConditional(const ConditionalExpression& node) {
  ASSIGN_OR_RETURN(const Value test, Eval(*node.test));
  if (test.Truthy()) return Eval(*node.then);
  if (node.otherwise != nullptr) return Eval(*node.otherwise);
  return UndefinedHint(fmt::format(
      "the inline if-expression on line {} evaluated to false and no else section was defined.", node.at.line));
}

absl::Status Evaluator::EvalArguments(const CallArguments& node, Arguments* arguments) {
  for (const ExpressionPtr& item : node.positional) {
    ASSIGN_OR_RETURN(Value value, Eval(*item));
    arguments->positional.push_back(std::move(value));
  }
  if (node.more_positional != nullptr) {
    ASSIGN_OR_RETURN(const Value more, Eval(*node.more_positional));
    if (!IsIterable(more)) {
      return Raise(ErrorType::kTypeError, "Value after * must be an iterable, not {}", more.TypeName());
    }
    ASSIGN_OR_RETURN(std::vector<Value> items, Items(runtime_, more));
    for (Value& item : items) arguments->positional.push_back(std::move(item));
  }
  for (const auto& [name, item] : node.named) {
    ASSIGN_OR_RETURN(Value value, Eval(*item));
    for (const auto& [given, unused] : arguments->named) {
      if (given.AsString() == name.AsString()) {
        return Raise(ErrorType::kTypeError, "keyword argument repeated: {}", name.AsString());
      }
    }
    arguments->named.emplace_back(name, std::move(value));
  }
  if (node.more_named == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Value more, Eval(*node.more_named));
  if (!more.IsDict()) {
    return Raise(ErrorType::kTypeError, "argument after ** must be a mapping, not {}", more.TypeName());
  }
  for (const Dict::Entry& entry : more.AsDict().entries()) {
    RETURN_IF_ERROR(runtime_.budget().Step());
    if (!entry.key.IsString()) return Raise(ErrorType::kTypeError, "keywords must be strings");
    for (size_t i = 0; i < node.named.size(); ++i) {
      if (node.named[i].first.AsString() == entry.key.AsString()) {
        return Raise(ErrorType::kTypeError, "got multiple values for keyword argument {}",
                     QuotedRepr(entry.key.AsString()));
      }
    }
    arguments->named.emplace_back(entry.key, entry.value);
  }
  return absl::OkStatus();
}

absl::StatusOr<Value> Evaluator::EvalPostfix(const PostfixExpression& node, Value input, const Value* caller) {
  Value value = std::move(input);
  if (node.base != nullptr) {
    ASSIGN_OR_RETURN(value, Eval(*node.base));
  }
  for (size_t i = 0; i < node.steps.size(); ++i) {
    const PostfixStep& step = node.steps[i];
    RETURN_IF_ERROR(runtime_.budget().Step());
    position_ = step.at;
    const bool last = i + 1 == node.steps.size();
    if (step.kind == PostfixStep::Kind::kAttribute && !last && node.steps[i + 1].kind == PostfixStep::Kind::kCall) {
      // value.method(...): called without making the bound method a value.
      const Method method = FindMethod(value, step.name.AsString());
      if (method.access == MethodAccess::kAllowed) {
        Arguments arguments;
        RETURN_IF_ERROR(EvalArguments(node.steps[++i].arguments, &arguments));
        if (caller != nullptr && i + 1 == node.steps.size()) {
          arguments.named.emplace_back(Value::String("caller"), *caller);
        }
        position_ = step.at;
        ASSIGN_OR_RETURN(value, CallMethod(runtime_, method, value, arguments));
        continue;
      }
    }
    ASSIGN_OR_RETURN(value, ApplyStep(step, std::move(value), last ? caller : nullptr));
  }
  return value;
}

absl::StatusOr<Value> Evaluator::ApplyStep(const PostfixStep& step, Value value, const Value* caller) {
  switch (step.kind) {
    case PostfixStep::Kind::kAttribute:
      return GetAttribute(runtime_, value, step.name);
    case PostfixStep::Kind::kItem: {
      ASSIGN_OR_RETURN(const Value index, Eval(*step.index));
      position_ = step.at;
      return GetItem(runtime_, value, index);
    }
    case PostfixStep::Kind::kSlice: {
      ASSIGN_OR_RETURN(const Value start, EvalOptional(step.index));
      ASSIGN_OR_RETURN(const Value stop, EvalOptional(step.stop));
      ASSIGN_OR_RETURN(const Value stride, EvalOptional(step.step));
      position_ = step.at;
      return GetSlice(runtime_, value, start, stop, stride);
    }
    case PostfixStep::Kind::kCall: {
      Arguments arguments;
      RETURN_IF_ERROR(EvalArguments(step.arguments, &arguments));
      if (caller != nullptr) arguments.named.emplace_back(Value::String("caller"), *caller);
      position_ = step.at;
      return Call(runtime_, value, arguments);
    }
    case PostfixStep::Kind::kFilter:
      return ApplyFilter(step, value);
    case PostfixStep::Kind::kTest:
      return ApplyTest(step, value);
  }
  return value;
}

absl::StatusOr<Value> Evaluator::ApplyFilter(const PostfixStep& step, const Value& value) {
  if (step.filter == nullptr) {
    return Raise(ErrorType::kTemplateRuntimeError, "No filter named {} found.", QuotedRepr(step.name.AsString()));
  }
  Arguments arguments;
  RETURN_IF_ERROR(EvalArguments(step.arguments, &arguments));
  position_ = step.at;
  return step.filter(runtime_, value, arguments);
}

absl::StatusOr<Value> Evaluator::ApplyTest(const PostfixStep& step, const Value& value) {
  if (step.test == nullptr) {
    return Raise(ErrorType::kTemplateRuntimeError, "No test named {} found.", QuotedRepr(step.name.AsString()));
  }
  Arguments arguments;
  RETURN_IF_ERROR(EvalArguments(step.arguments, &arguments));
  position_ = step.at;
  ASSIGN_OR_RETURN(const bool holds, RunTest(runtime_, *step.test, value, arguments));
  return Value::Bool(holds != step.negated);
}

}  // namespace conclave::jinja
