// SPDX-License-Identifier: Apache-2.0
// The evaluator's other half: statements, scopes, output.
#include "common/jinja/evaluator.h"
#include "common/jinja/macro.h"
#include "common/jinja/printing.h"

namespace conclave::jinja {

void Evaluator::Enter(const Scope& scope) {
  for (const ScopeLoad& load : scope.loads) {
    Value& slot = frame_->slots[load.slot];
    switch (load.kind) {
      case ScopeLoad::Kind::kUndefined:
        slot = Value();
        break;
      case ScopeLoad::Kind::kAlias:
        slot = Slot(load.from);
        break;
      case ScopeLoad::Kind::kResolve: {
        if (load.has_from && !Slot(load.from).IsMissing()) {
          slot = Slot(load.from);
          break;
        }
        const Value* found = context_.Find(std::string_view(load.name));
        slot = found != nullptr ? *found : load.global;
        break;
      }
    }
  }
}

void Evaluator::Leave(const Scope& scope) {
  for (const uint32_t slot : scope.slots) frame_->slots[slot] = Value();
}

absl::StatusOr<Text> Evaluator::Render(const Tree& tree) {
  TextBuilder out;
  Activation activation{nullptr, std::vector<Value>(tree.slots)};
  frame_ = &activation;
  out_ = &out;
  Enter(tree.scope);
  RETURN_IF_ERROR(Exec(tree.body).status());
  RETURN_IF_ERROR(runtime_.budget().CheckLength(out.size()));
  RETURN_IF_ERROR(runtime_.budget().Step(0));
  return out.Take();
}

absl::StatusOr<Value> Evaluator::Evaluate(const Node& expression, const Scope& scope, uint32_t slots) {
  Activation activation{nullptr, std::vector<Value>(slots)};
  frame_ = &activation;
  Enter(scope);
  ASSIGN_OR_RETURN(Value value, Eval(expression));
  RETURN_IF_ERROR(runtime_.budget().Step(0));
  return value;
}

absl::StatusOr<Evaluator::Flow> Evaluator::Exec(const Body& body) {
  for (const StatementPtr& statement : body) {
    ASSIGN_OR_RETURN(const Flow flow, ExecStatement(*statement));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<Evaluator::Flow> Evaluator::ExecStatement(const Statement& statement) {
  RETURN_IF_ERROR(runtime_.budget().Step());
  const Nesting nesting(runtime_);
  RETURN_IF_ERROR(nesting.Check());
  absl::Status status;
  switch (statement.kind) {
    case StatementKind::kOutput:
      status = ExecOutput(static_cast<const OutputStatement&>(statement));
      break;
    case StatementKind::kIf:
      return ExecIf(static_cast<const IfStatement&>(statement));
    case StatementKind::kFor:
      status = ExecFor(static_cast<const ForStatement&>(statement));
      break;
    case StatementKind::kSet:
      status = ExecSet(static_cast<const SetStatement&>(statement));
      break;
    case StatementKind::kSetBlock:
      status = ExecSetBlock(static_cast<const SetBlockStatement&>(statement));
      break;
    case StatementKind::kWith:
      return ExecWith(static_cast<const WithStatement&>(statement));
    case StatementKind::kScope:
      return ExecScoped(static_cast<const ScopeStatement&>(statement).scope,
                        static_cast<const ScopeStatement&>(statement).body);
    case StatementKind::kMacro: {
      const auto& node = static_cast<const MacroStatement&>(statement);
      status = Assign(*node.target, Value::OfObject(std::make_shared<Macro>(*this, node.macro, frame_)));
      break;
    }
    case StatementKind::kCall:
      status = ExecCall(static_cast<const CallStatement&>(statement));
      break;
    case StatementKind::kFilter:
      status = ExecFilter(static_cast<const FilterStatement&>(statement));
      break;
    case StatementKind::kBlock:
      return ExecScoped(static_cast<const BlockStatement&>(statement).scope,
                        static_cast<const BlockStatement&>(statement).body);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
    case StatementKind::kUnsupported:
      position_ = statement.at;
      return Raise(ErrorType::kTypeError, "no loader for this environment specified");
  }
  RETURN_IF_ERROR(status);
  return Flow::kNext;
}

absl::Status Evaluator::Write(const Value& value) { return AppendStr(runtime_, value, out_); }

absl::Status Evaluator::ExecOutput(const OutputStatement& node) {
  for (const ExpressionPtr& item : node.items) {
    if (item->kind == ExpressionKind::kConstant) {
      RETURN_IF_ERROR(Write(static_cast<const ConstantExpression&>(*item).value));
    } else {
      RETURN_IF_ERROR(AppendResult(*item));
    }
  }
  return absl::OkStatus();
}

// Writes a + b + c piece by piece, when all are text, instead of joining them first.
absl::Status Evaluator::AppendResult(const Node& node) {
  if (node.kind != ExpressionKind::kArithmetic) {
    ASSIGN_OR_RETURN(const Value value, Eval(node));
    return Write(value);
  }
  const auto& sum = static_cast<const ArithmeticExpression&>(node);
  absl::InlinedVector<Value, 8> parts;
  ASSIGN_OR_RETURN(Value first, Eval(*sum.first));
  bool joins = first.IsString() && !first.AsText().markup;
  parts.push_back(std::move(first));
  size_t read = 0;
  for (; joins && read < sum.rest.size(); ++read) {
    const auto& [op, operand] = sum.rest[read];
    if (op != BinaryOperator::kAdd) break;
    ASSIGN_OR_RETURN(Value next, Eval(*operand));
    position_ = operand->at;
    joins = next.IsString() && !next.AsText().markup;
    parts.push_back(std::move(next));
  }
  if (joins && read == sum.rest.size()) {
    for (const Value& part : parts) RETURN_IF_ERROR(Write(part));
    return absl::OkStatus();
  }
  // Something else came up: add what was read, then the rest, one by one.
  Value total = parts[0];
  for (size_t i = 0; i < sum.rest.size(); ++i) {
    Value right;
    if (i + 1 < parts.size()) {
      right = parts[i + 1];
    } else {
      ASSIGN_OR_RETURN(right, Eval(*sum.rest[i].second));
      position_ = sum.rest[i].second->at;
    }
    ASSIGN_OR_RETURN(total, Apply(runtime_, sum.rest[i].first, total, right));
  }
  return Write(total);
}

absl::StatusOr<Evaluator::Flow> Evaluator::ExecIf(const IfStatement& node) {
  for (const IfStatement::Branch& branch : node.branches) {
    ASSIGN_OR_RETURN(const Value test, Eval(*branch.test));
    if (test.Truthy()) return Exec(branch.body);
  }
  return Exec(node.otherwise);
}

absl::Status Evaluator::CheckNamespaces(const Node& target) {
  if (target.kind == ExpressionKind::kNamespaceTarget) {
    const auto& node = static_cast<const NamespaceTarget&>(target);
    position_ = node.at;
    if (Slot(node.space->variable).AsObjectOf<Namespace>() == nullptr) {
      return Raise(ErrorType::kTemplateRuntimeError, "cannot assign attribute on non-namespace object");
    }
  } else if (target.kind == ExpressionKind::kTuple) {
    for (const ExpressionPtr& item : static_cast<const SequenceExpression&>(target).items) {
      RETURN_IF_ERROR(CheckNamespaces(*item));
    }
  }
  return absl::OkStatus();
}

absl::Status Evaluator::Assign(const Node& target, Value value) {
  RETURN_IF_ERROR(runtime_.budget().Step());
  if (target.kind == ExpressionKind::kName) {
    Slot(static_cast<const NameExpression&>(target).variable) = std::move(value);
    return absl::OkStatus();
  }
  position_ = target.at;
  if (target.kind == ExpressionKind::kNamespaceTarget) {
    const auto& node = static_cast<const NamespaceTarget&>(target);
    auto* space = Slot(node.space->variable).AsObjectOf<Namespace>();
    if (space == nullptr) {
      return Raise(ErrorType::kTemplateRuntimeError, "cannot assign attribute on non-namespace object");
    }
    return runtime_.Assign(*space, node.attribute, std::move(value));
  }
  const auto& targets = static_cast<const SequenceExpression&>(target).items;
  if (!IsIterable(value)) return Raise(ErrorType::kTypeError, "cannot unpack non-iterable {} object", value.TypeName());
  ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(value));
  std::vector<Value> items;
  for (Value item; items.size() <= targets.size();) {
    ASSIGN_OR_RETURN(const bool more, cursor.Next(runtime_, &item));
    if (!more) break;
    items.push_back(std::move(item));
  }
  if (items.size() < targets.size()) {
    return Raise(ErrorType::kValueError, "not enough values to unpack (expected {}, got {})", targets.size(),
                 items.size());
  }
  if (items.size() > targets.size()) {
    return Raise(ErrorType::kValueError, "too many values to unpack (expected {})", targets.size());
  }
  for (size_t i = 0; i < targets.size(); ++i) RETURN_IF_ERROR(Assign(*targets[i], std::move(items[i])));
  return absl::OkStatus();
}

absl::Status Evaluator::ExecSet(const SetStatement& node) {
  if (node.target->kind != ExpressionKind::kName) RETURN_IF_ERROR(CheckNamespaces(*node.target));
  ASSIGN_OR_RETURN(Value value, Eval(*node.value));
  return Assign(*node.target, std::move(value));
}

absl::StatusOr<Value> Evaluator::Capture(const Body& body) {
  TextBuilder text;
  TextBuilder* const outer = std::exchange(out_, &text);
  const auto flow = Exec(body);
  out_ = outer;
  RETURN_IF_ERROR(flow.status());
  return runtime_.NewText(text.Take());
}

absl::Status Evaluator::ExecSetBlock(const SetBlockStatement& node) {
  Enter(node.scope);
  ASSIGN_OR_RETURN(Value value, Capture(node.body));
  if (node.filter != nullptr) {
    ASSIGN_OR_RETURN(value,
                     EvalPostfix(static_cast<const PostfixExpression&>(*node.filter), std::move(value), nullptr));
  }
  RETURN_IF_ERROR(CheckNamespaces(*node.target));
  RETURN_IF_ERROR(Assign(*node.target, std::move(value)));
  Leave(node.scope);
  return absl::OkStatus();
}

absl::Status Evaluator::ExecFilter(const FilterStatement& node) {
  Enter(node.scope);
  ASSIGN_OR_RETURN(Value value, Capture(node.body));
  ASSIGN_OR_RETURN(value, EvalPostfix(static_cast<const PostfixExpression&>(*node.filter), std::move(value), nullptr));
  RETURN_IF_ERROR(Write(value));
  Leave(node.scope);
  return absl::OkStatus();
}

absl::StatusOr<Evaluator::Flow> Evaluator::ExecWith(const WithStatement& node) {
  Enter(node.scope);
  for (const auto& [target, expression] : node.assignments) {
    ASSIGN_OR_RETURN(Value value, Eval(*expression));
    RETURN_IF_ERROR(Assign(*target, std::move(value)));
  }
  ASSIGN_OR_RETURN(const Flow flow, Exec(node.body));
  Leave(node.scope);
  return flow;
}

absl::StatusOr<Evaluator::Flow> Evaluator::ExecScoped(const Scope& scope, const Body& body) {
  Enter(scope);
  ASSIGN_OR_RETURN(const Flow flow, Exec(body));
  Leave(scope);
  return flow;
}

absl::Status Evaluator::ExecCall(const CallStatement& node) {
  const Value caller = Value::OfObject(std::make_shared<Macro>(*this, node.caller, frame_));
  ASSIGN_OR_RETURN(const Value value, EvalPostfix(static_cast<const PostfixExpression&>(*node.call), Value(), &caller));
  return Write(value);
}

}  // namespace conclave::jinja
