// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/walk.h"

namespace conclave::jinja {
namespace {

void VisitIfSet(const ExpressionPtr& node, const NodeVisitor& visit) {
  if (node != nullptr) visit(*node);
}

void VisitBody(Body& body, const StatementVisitor& visit) {
  for (const StatementPtr& statement : body) visit(*statement);
}

void VisitMacro(MacroDefinition& macro, const NodeVisitor& visit, const StatementVisitor& visit_statement) {
  for (const auto& parameter : macro.parameters) visit(*parameter);
  for (const ExpressionPtr& fallback : macro.defaults) visit(*fallback);
  VisitBody(macro.body, visit_statement);
}

}  // namespace

void ForEachArgument(CallArguments& arguments, const NodeVisitor& visit) {
  for (const ExpressionPtr& argument : arguments.positional) visit(*argument);
  for (const auto& [name, argument] : arguments.named) visit(*argument);
  VisitIfSet(arguments.more_positional, visit);
  VisitIfSet(arguments.more_named, visit);
}

void ForEachChild(Node& node, const NodeVisitor& visit) {
  switch (node.kind) {
    case ExpressionKind::kConstant:
    case ExpressionKind::kName:
      return;
    case ExpressionKind::kList:
    case ExpressionKind::kTuple:
      for (const ExpressionPtr& item : static_cast<SequenceExpression&>(node).items) visit(*item);
      return;
    case ExpressionKind::kDict:
      for (const auto& [key, value] : static_cast<DictExpression&>(node).entries) {
        visit(*key);
        visit(*value);
      }
      return;
    case ExpressionKind::kUnary:
      return visit(*static_cast<UnaryExpression&>(node).operand);
    case ExpressionKind::kArithmetic:
      visit(*static_cast<ArithmeticExpression&>(node).first);
      for (const auto& [op, operand] : static_cast<ArithmeticExpression&>(node).rest) visit(*operand);
      return;
    case ExpressionKind::kLogical:
      for (const ExpressionPtr& operand : static_cast<LogicalExpression&>(node).operands) visit(*operand);
      return;
    case ExpressionKind::kComparison:
      visit(*static_cast<ComparisonExpression&>(node).first);
      for (const auto& [op, operand] : static_cast<ComparisonExpression&>(node).rest) visit(*operand);
      return;
    case ExpressionKind::kConcatenation:
      for (const ExpressionPtr& item : static_cast<ConcatenationExpression&>(node).items) visit(*item);
      return;
    case ExpressionKind::kConditional: {
      auto& conditional = static_cast<ConditionalExpression&>(node);
      visit(*conditional.test);
      visit(*conditional.then);
      VisitIfSet(conditional.otherwise, visit);
      return;
    }
    case ExpressionKind::kPostfix: {
      auto& postfix = static_cast<PostfixExpression&>(node);
      VisitIfSet(postfix.base, visit);
      for (PostfixStep& step : postfix.steps) {
        VisitIfSet(step.index, visit);
        VisitIfSet(step.stop, visit);
        VisitIfSet(step.step, visit);
        ForEachArgument(step.arguments, visit);
      }
      return;
    }
    case ExpressionKind::kNamespaceTarget:
      return visit(*static_cast<NamespaceTarget&>(node).space);
  }
}

void ForEachChild(Statement& statement, const NodeVisitor& visit, const StatementVisitor& visit_statement) {
  switch (statement.kind) {
    case StatementKind::kOutput:
      for (const ExpressionPtr& item : static_cast<OutputStatement&>(statement).items) visit(*item);
      return;
    case StatementKind::kFor: {
      auto& loop = static_cast<ForStatement&>(statement);
      visit(*loop.target);
      visit(*loop.iterable);
      VisitBody(loop.body, visit_statement);
      VisitBody(loop.otherwise, visit_statement);
      return VisitIfSet(loop.test, visit);
    }
    case StatementKind::kIf: {
      auto& conditional = static_cast<IfStatement&>(statement);
      for (IfStatement::Branch& branch : conditional.branches) {
        visit(*branch.test);
        VisitBody(branch.body, visit_statement);
      }
      return VisitBody(conditional.otherwise, visit_statement);
    }
    case StatementKind::kSet:
      visit(*static_cast<SetStatement&>(statement).target);
      return visit(*static_cast<SetStatement&>(statement).value);
    case StatementKind::kSetBlock: {
      auto& block = static_cast<SetBlockStatement&>(statement);
      visit(*block.target);
      VisitIfSet(block.filter, visit);
      return VisitBody(block.body, visit_statement);
    }
    case StatementKind::kWith: {
      auto& with = static_cast<WithStatement&>(statement);
      for (const auto& [target, value] : with.assignments) visit(*target);
      for (const auto& [target, value] : with.assignments) visit(*value);
      return VisitBody(with.body, visit_statement);
    }
    case StatementKind::kScope:
      VisitIfSet(static_cast<ScopeStatement&>(statement).option, visit);
      return VisitBody(static_cast<ScopeStatement&>(statement).body, visit_statement);
    case StatementKind::kMacro:
      return VisitMacro(static_cast<MacroStatement&>(statement).macro, visit, visit_statement);
    case StatementKind::kCall:
      visit(*static_cast<CallStatement&>(statement).call);
      return VisitMacro(static_cast<CallStatement&>(statement).caller, visit, visit_statement);
    case StatementKind::kFilter:
      VisitBody(static_cast<FilterStatement&>(statement).body, visit_statement);
      return visit(*static_cast<FilterStatement&>(statement).filter);
    case StatementKind::kBlock:
      return VisitBody(static_cast<BlockStatement&>(statement).body, visit_statement);
    case StatementKind::kBreak:
    case StatementKind::kContinue:
    case StatementKind::kUnsupported:
      return;
  }
}

}  // namespace conclave::jinja
