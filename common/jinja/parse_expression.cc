// SPDX-License-Identifier: Apache-2.0
// One function per level of the expression grammar, from `if else` down to literals.
#include <algorithm>

#include "common/jinja/parser.h"
#include "common/jinja/parser_core.h"
#include "common/jinja/printing.h"

namespace conclave::jinja {
namespace {

std::string_view NodeName(const Node& node) {
  switch (node.kind) {
    case ExpressionKind::kConstant:
      return "const";
    case ExpressionKind::kList:
      return "list";
    case ExpressionKind::kDict:
      return "dict";
    default:
      return "expression";
  }
}

void MarkStored(Node* node) {
  if (node->kind == ExpressionKind::kName) static_cast<NameExpression*>(node)->use = NameExpression::Use::kStore;
  if (node->kind == ExpressionKind::kTuple) {
    for (const ExpressionPtr& item : static_cast<SequenceExpression*>(node)->items) MarkStored(item.get());
  }
}

const Node* FirstUnassignable(const Node& node) {
  if (node.kind == ExpressionKind::kName || node.kind == ExpressionKind::kNamespaceTarget) return nullptr;
  if (node.kind != ExpressionKind::kTuple) return &node;
  for (const ExpressionPtr& item : static_cast<const SequenceExpression&>(node).items) {
    if (const Node* found = FirstUnassignable(*item)) return found;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<ExpressionPtr> ExpressionParser::Expression(Conditional conditional) {
  const TokenStream::Level level(stream_);
  if (level.TooDeep()) return stream_.FailDepth();
  return conditional == Conditional::kAllowed ? ConditionalChain() : Or();
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ConditionalChain() {
  Position at = stream_.Current().at;
  ASSIGN_OR_RETURN(ExpressionPtr then, Or());
  for (int rounds = 0; stream_.TakeName("if"); ++rounds) {
    if (rounds > 8) return stream_.FailDepth();  // "a if b if c ..." nests to the left
    auto node = std::make_unique<ConditionalExpression>(at);
    ASSIGN_OR_RETURN(node->test, Or());
    if (stream_.TakeName("else")) {
      ASSIGN_OR_RETURN(node->otherwise, Expression());
    }
    node->then = std::move(then);
    then = std::move(node);
    at = stream_.Current().at;
  }
  return then;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Or() {
  const Position at = stream_.Current().at;
  ASSIGN_OR_RETURN(ExpressionPtr first, And());
  if (!stream_.IsName("or")) return first;
  auto node = std::make_unique<LogicalExpression>(at, false);
  node->operands.push_back(std::move(first));
  while (stream_.TakeName("or")) {
    ASSIGN_OR_RETURN(ExpressionPtr next, And());
    node->operands.push_back(std::move(next));
  }
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::And() {
  const Position at = stream_.Current().at;
  ASSIGN_OR_RETURN(ExpressionPtr first, Not());
  if (!stream_.IsName("and")) return first;
  auto node = std::make_unique<LogicalExpression>(at, true);
  node->operands.push_back(std::move(first));
  while (stream_.TakeName("and")) {
    ASSIGN_OR_RETURN(ExpressionPtr next, Not());
    node->operands.push_back(std::move(next));
  }
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Not() {
  if (!stream_.IsName("not")) return Comparisons();
  const TokenStream::Level level(stream_);
  if (level.TooDeep()) return stream_.FailDepth();
  const Position at = stream_.Current().at;
  stream_.Skip();
  ASSIGN_OR_RETURN(ExpressionPtr operand, Not());
  return std::make_unique<UnaryExpression>(at, UnaryExpression::Operator::kNot, std::move(operand));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Comparisons() {
  static constexpr std::pair<std::string_view, Comparison> kOperators[] = {
      {"==", Comparison::kEqual},     {"!=", Comparison::kNotEqual}, {"<", Comparison::kLess},
      {"<=", Comparison::kLessEqual}, {">", Comparison::kGreater},   {">=", Comparison::kGreaterEqual}};
  const Position at = stream_.Current().at;
  ASSIGN_OR_RETURN(ExpressionPtr first, Sums());
  auto node = std::make_unique<ComparisonExpression>(at);
  while (true) {
    std::optional<Comparison> op;
    if (stream_.Is(TokenKind::kOperator)) {
      for (const auto& [text, comparison] : kOperators) {
        if (stream_.Current().text == text) op = comparison;
      }
      if (op.has_value()) stream_.Skip();
    } else if (stream_.TakeName("in")) {
      op = Comparison::kIn;
    } else if (stream_.IsName("not") && stream_.Ahead().kind == TokenKind::kName && stream_.Ahead().text == "in") {
      stream_.Skip();
      stream_.Skip();
      op = Comparison::kNotIn;
    }
    if (!op.has_value()) break;
    ASSIGN_OR_RETURN(ExpressionPtr operand, Sums());
    node->rest.emplace_back(*op, std::move(operand));
  }
  if (node->rest.empty()) return first;
  node->first = std::move(first);
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Sums() {
  const Position at = stream_.Current().at;
  ASSIGN_OR_RETURN(ExpressionPtr first, Concatenations());
  auto node = std::make_unique<ArithmeticExpression>(at);
  while (stream_.IsOperator("+") || stream_.IsOperator("-")) {
    const BinaryOperator op = stream_.IsOperator("+") ? BinaryOperator::kAdd : BinaryOperator::kSubtract;
    stream_.Skip();
    ASSIGN_OR_RETURN(ExpressionPtr operand, Concatenations());
    node->rest.emplace_back(op, std::move(operand));
  }
  if (node->rest.empty()) return first;
  node->first = std::move(first);
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Concatenations() {
  const Position at = stream_.Current().at;
  ASSIGN_OR_RETURN(ExpressionPtr first, Products());
  if (!stream_.IsOperator("~")) return first;
  auto node = std::make_unique<ConcatenationExpression>(at);
  node->items.push_back(std::move(first));
  while (stream_.TakeOperator("~")) {
    ASSIGN_OR_RETURN(ExpressionPtr next, Products());
    node->items.push_back(std::move(next));
  }
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Products() {
  const Position at = stream_.Current().at;
  ASSIGN_OR_RETURN(ExpressionPtr first, Powers());
  auto node = std::make_unique<ArithmeticExpression>(at);
  while (true) {
    std::optional<BinaryOperator> op;
    if (stream_.IsOperator("*")) op = BinaryOperator::kMultiply;
    if (stream_.IsOperator("/")) op = BinaryOperator::kDivide;
    if (stream_.IsOperator("//")) op = BinaryOperator::kFloorDivide;
    if (stream_.IsOperator("%")) op = BinaryOperator::kModulo;
    if (!op.has_value()) break;
    stream_.Skip();
    ASSIGN_OR_RETURN(ExpressionPtr operand, Powers());
    node->rest.emplace_back(*op, std::move(operand));
  }
  if (node->rest.empty()) return first;
  node->first = std::move(first);
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Powers() {
  const Position at = stream_.Current().at;
  ASSIGN_OR_RETURN(ExpressionPtr first, Unary(true));
  if (!stream_.IsOperator("**")) return first;
  auto node = std::make_unique<ArithmeticExpression>(at);
  node->first = std::move(first);
  while (stream_.TakeOperator("**")) {
    ASSIGN_OR_RETURN(ExpressionPtr operand, Unary(true));
    node->rest.emplace_back(BinaryOperator::kPower, std::move(operand));
  }
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Unary(bool with_filters) {
  const Position at = stream_.Current().at;
  ExpressionPtr node;
  if (stream_.IsOperator("-") || stream_.IsOperator("+")) {
    const TokenStream::Level level(stream_);
    if (level.TooDeep()) return stream_.FailDepth();
    const auto op = stream_.IsOperator("-") ? UnaryExpression::Operator::kNegate : UnaryExpression::Operator::kPlus;
    stream_.Skip();
    ASSIGN_OR_RETURN(ExpressionPtr operand, Unary(false));
    node = std::make_unique<UnaryExpression>(at, op, std::move(operand));
  } else {
    ASSIGN_OR_RETURN(node, Primary(false, false));
  }
  ASSIGN_OR_RETURN(node, Postfix(std::move(node)));
  return with_filters ? FilterExpressions(std::move(node)) : std::move(node);
}

absl::StatusOr<ExpressionPtr> ExpressionParser::NamePrimary(bool target, bool allow_namespace) {
  const Token token = stream_.Current();
  stream_.Skip();
  const std::string& name = token.text;
  if (name == "true" || name == "True") return std::make_unique<ConstantExpression>(token.at, Value::Bool(true));
  if (name == "false" || name == "False") return std::make_unique<ConstantExpression>(token.at, Value::Bool(false));
  if (name == "none" || name == "None") return std::make_unique<ConstantExpression>(token.at, Value::None());
  auto node = std::make_unique<NameExpression>(token.at, name, NameExpression::Use::kLoad);
  if (target && allow_namespace && stream_.TakeOperator(".")) {
    ASSIGN_OR_RETURN(Token attribute, stream_.ExpectAnyName());
    return std::make_unique<NamespaceTarget>(token.at, std::move(node), Value::String(std::move(attribute.text)));
  }
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Primary(bool target, bool allow_namespace) {
  const Token& token = stream_.Current();
  const Position at = token.at;
  switch (token.kind) {
    case TokenKind::kName:
      return NamePrimary(target, allow_namespace);
    case TokenKind::kString: {
      std::string text;
      for (; stream_.Is(TokenKind::kString); stream_.Skip()) text += stream_.Current().text;
      return std::make_unique<ConstantExpression>(at, Value::String(std::move(text)));
    }
    case TokenKind::kInteger:
    case TokenKind::kFloat: {
      Value value = token.kind == TokenKind::kInteger ? Value::Int(token.integer) : Value::Float(token.number);
      stream_.Skip();
      return std::make_unique<ConstantExpression>(at, std::move(value));
    }
    case TokenKind::kOperator:
      if (token.text == "(") {
        stream_.Skip();
        ASSIGN_OR_RETURN(ExpressionPtr inner, TupleOrExpression(Conditional::kAllowed, true));
        RETURN_IF_ERROR(stream_.ExpectOperator(")"));
        return inner;
      }
      if (token.text == "[") return ListLiteral();
      if (token.text == "{") return DictLiteral();
      break;
    default:
      break;
  }
  return stream_.Fail(at, "unexpected {}", QuotedRepr(Describe(token)));
}

bool ExpressionParser::AtTupleEnd() const {
  return stream_.Is(TokenKind::kVariableEnd) || stream_.Is(TokenKind::kBlockEnd) || stream_.IsOperator(")");
}

absl::StatusOr<ExpressionPtr> ExpressionParser::TupleOrExpression(Conditional conditional, bool parenthesised) {
  const Position at = stream_.Current().at;
  auto tuple = std::make_unique<SequenceExpression>(ExpressionKind::kTuple, at);
  bool comma = false;
  while (true) {
    if (!tuple->items.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (AtTupleEnd()) break;
    ASSIGN_OR_RETURN(ExpressionPtr item, Expression(conditional));
    tuple->items.push_back(std::move(item));
    if (!stream_.IsOperator(",")) break;
    comma = true;
  }
  if (!comma && !tuple->items.empty()) return std::move(tuple->items[0]);
  if (!comma && !parenthesised) {
    return stream_.Fail(stream_.Current().at, "Expected an expression, got {}",
                        QuotedRepr(Describe(stream_.Current())));
  }
  return tuple;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::AssignmentTarget(bool allow_namespace) {
  const Position at = stream_.Current().at;
  auto tuple = std::make_unique<SequenceExpression>(ExpressionKind::kTuple, at);
  bool comma = false;
  while (true) {
    if (!tuple->items.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (AtTupleEnd()) break;
    ASSIGN_OR_RETURN(ExpressionPtr item, Primary(true, allow_namespace));
    tuple->items.push_back(std::move(item));
    if (!stream_.IsOperator(",")) break;
    comma = true;
  }
  ExpressionPtr target;
  if (!comma && !tuple->items.empty()) {
    target = std::move(tuple->items[0]);
  } else if (!comma) {
    return stream_.Fail(stream_.Current().at, "Expected an expression, got {}",
                        QuotedRepr(Describe(stream_.Current())));
  } else {
    target = std::move(tuple);
  }
  if (const Node* bad = FirstUnassignable(*target)) {
    return stream_.Fail(bad->at, "can't assign to '{}'",
                        target->kind == ExpressionKind::kTuple ? "tuple" : NodeName(*bad));
  }
  MarkStored(target.get());
  return target;
}

absl::StatusOr<std::unique_ptr<NameExpression>> ExpressionParser::NameTarget(NameExpression::Use use) {
  ASSIGN_OR_RETURN(Token token, stream_.ExpectAnyName());
  for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
    if (token.text == constant) return stream_.Fail(token.at, "can't assign to 'name'");
  }
  return std::make_unique<NameExpression>(token.at, std::move(token.text), use);
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ListLiteral() {
  auto list = std::make_unique<SequenceExpression>(ExpressionKind::kList, stream_.Current().at);
  stream_.Skip();
  while (!stream_.IsOperator("]")) {
    if (!list->items.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (stream_.IsOperator("]")) break;
    ASSIGN_OR_RETURN(ExpressionPtr item, Expression());
    list->items.push_back(std::move(item));
  }
  stream_.Skip();
  return list;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::DictLiteral() {
  auto dict = std::make_unique<DictExpression>(stream_.Current().at);
  stream_.Skip();
  while (!stream_.IsOperator("}")) {
    if (!dict->entries.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (stream_.IsOperator("}")) break;
    ASSIGN_OR_RETURN(ExpressionPtr key, Expression());
    RETURN_IF_ERROR(stream_.ExpectOperator(":"));
    ASSIGN_OR_RETURN(ExpressionPtr value, Expression());
    dict->entries.emplace_back(std::move(key), std::move(value));
  }
  stream_.Skip();
  return dict;
}

absl::StatusOr<ExpressionPtr> ParseExpression(std::string_view source, int depth_max) {
  TokenStream stream(Tokenize(source, LexerMode::kExpression, WhitespaceRules{}), depth_max);
  ExpressionParser parser(stream);
  ASSIGN_OR_RETURN(ExpressionPtr expression, parser.Expression());
  if (!stream.Is(TokenKind::kEnd)) return stream.Fail(stream.Current().at, "chunk after expression");
  return expression;
}

}  // namespace conclave::jinja
