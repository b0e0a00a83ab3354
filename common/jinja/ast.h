// SPDX-License-Identifier: Apache-2.0
// The tree of a template. Chains (a + b + c, x.y[0]|f, if/elif) are kept as lists, so the depth of the tree is the
// depth of nesting in the source, which the parser limits; everything that walks the tree may therefore recurse.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/jinja/builtins.h"
#include "common/jinja/lexer.h"
#include "common/jinja/operators.h"
#include "common/jinja/value.h"

namespace conclave::jinja {

struct Node;
struct Statement;
using ExpressionPtr = std::unique_ptr<Node>;
using StatementPtr = std::unique_ptr<Statement>;
using Body = std::vector<StatementPtr>;

// Where a variable lives: `hops` functions out from the current one (a macro is a function), then this slot.
struct Variable {
  uint32_t hops = 0;
  uint32_t slot = 0;
};

enum class ExpressionKind : uint8_t {
  kConstant,
  kName,
  kList,
  kTuple,
  kDict,
  kUnary,
  kArithmetic,
  kLogical,
  kComparison,
  kConcatenation,
  kConditional,
  kPostfix,
  kNamespaceTarget,
};

struct Node {
  Node(ExpressionKind k, Position p) : kind(k), at(p) {}
  virtual ~Node() = default;
  const ExpressionKind kind;
  const Position at;
};

struct ConstantExpression final : Node {
  ConstantExpression(Position p, Value v) : Node(ExpressionKind::kConstant, p), value(std::move(v)) {}
  Value value;
};

struct NameExpression final : Node {
  enum class Use { kLoad, kStore, kParameter };
  NameExpression(Position p, std::string n, Use u) : Node(ExpressionKind::kName, p), name(std::move(n)), use(u) {}
  std::string name;
  Use use;
  Variable variable;  // set by the scope pass
  Value undefined;    // what a load of it yields when it is not set
};

struct SequenceExpression final : Node {  // kList, kTuple
  using Node::Node;
  std::vector<ExpressionPtr> items;
};

struct DictExpression final : Node {
  explicit DictExpression(Position p) : Node(ExpressionKind::kDict, p) {}
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};

struct UnaryExpression final : Node {
  enum class Operator { kNegate, kPlus, kNot };
  UnaryExpression(Position p, Operator o, ExpressionPtr e)
      : Node(ExpressionKind::kUnary, p), op(o), operand(std::move(e)) {}
  Operator op;
  ExpressionPtr operand;
};

struct ArithmeticExpression final : Node {  // first op operand op operand ..., left to right
  explicit ArithmeticExpression(Position p) : Node(ExpressionKind::kArithmetic, p) {}
  ExpressionPtr first;
  std::vector<std::pair<BinaryOperator, ExpressionPtr>> rest;
};

struct LogicalExpression final : Node {  // and, or: yields the operand that decides
  LogicalExpression(Position p, bool conjunction) : Node(ExpressionKind::kLogical, p), is_and(conjunction) {}
  bool is_and;
  std::vector<ExpressionPtr> operands;
};

struct ComparisonExpression final : Node {  // first < a <= b ..., each pair
  explicit ComparisonExpression(Position p) : Node(ExpressionKind::kComparison, p) {}
  ExpressionPtr first;
  std::vector<std::pair<Comparison, ExpressionPtr>> rest;
};

struct ConcatenationExpression final : Node {  // a ~ b ~ c
  explicit ConcatenationExpression(Position p) : Node(ExpressionKind::kConcatenation, p) {}
  std::vector<ExpressionPtr> items;
};

struct ConditionalExpression final : Node {
  explicit ConditionalExpression(Position p) : Node(ExpressionKind::kConditional, p) {}
  ExpressionPtr test, then, otherwise;  // otherwise may be null: undefined
};

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<Value, ExpressionPtr>> named;
  ExpressionPtr more_positional, more_named;  // *args, **kwargs
};

// One step behind a value: x.name, x[index], x[a:b:c], x(...), x|filter(...), x is test(...).
struct PostfixStep {
  enum class Kind : uint8_t { kAttribute, kItem, kSlice, kCall, kFilter, kTest };
  Kind kind = Kind::kAttribute;
  Position at;
  Value name;                       // attribute, filter or test: a string
  ExpressionPtr index, stop, step;  // kItem: index; kSlice: index is the start; any may be null
  CallArguments arguments;          // kCall, kFilter, kTest
  FilterBody filter = nullptr;      // null: no such filter, an error when reached
  const TestDefinition* test = nullptr;
  bool negated = false;  // is not
};

struct PostfixExpression final : Node {
  explicit PostfixExpression(Position p) : Node(ExpressionKind::kPostfix, p) {}
  ExpressionPtr base;  // null: the text of a filter block
  std::vector<PostfixStep> steps;
};

struct NamespaceTarget final : Node {  // ns.attribute = ...
  NamespaceTarget(Position p, std::unique_ptr<NameExpression> n, Value a)
      : Node(ExpressionKind::kNamespaceTarget, p), space(std::move(n)), attribute(std::move(a)) {}
  std::unique_ptr<NameExpression> space;
  Value attribute;
};

// What entering a scope does to one variable, before its body runs.
struct ScopeLoad {
  enum class Kind : uint8_t { kResolve, kAlias, kUndefined };
  Kind kind = Kind::kUndefined;
  uint32_t slot = 0;
  bool has_from = false;  // kResolve in a block: a variable of the template itself comes first
  Variable from;          // kAlias, or has_from
  std::string name;       // kResolve: looked up in the context, then among the globals
  Value global;           // kResolve
};

struct Scope {
  std::vector<ScopeLoad> loads;
  std::vector<uint32_t> slots;  // to clear when the scope ends
};

enum class StatementKind : uint8_t {
  kOutput,
  kFor,
  kIf,
  kSet,
  kSetBlock,
  kWith,
  kScope,
  kMacro,
  kCall,
  kFilter,
  kBlock,
  kBreak,
  kContinue,
  kUnsupported,
};

struct Statement {
  Statement(StatementKind k, Position p) : kind(k), at(p) {}
  virtual ~Statement() = default;
  const StatementKind kind;
  const Position at;
};

struct OutputStatement final : Statement {
  explicit OutputStatement(Position p) : Statement(StatementKind::kOutput, p) {}
  std::vector<ExpressionPtr> items;
};

struct ForStatement final : Statement {
  explicit ForStatement(Position p) : Statement(StatementKind::kFor, p) {}
  ExpressionPtr target, iterable, test;  // test may be null
  Body body, otherwise;
  bool recursive = false;
  // Set by the scope pass.
  bool extended = false;  // the body uses `loop`
  uint32_t loop_slot = 0;
  ExpressionPtr test_target;  // the target once more, in the scope of the test
  Scope body_scope, test_scope, otherwise_scope;
  uint32_t slots = 0;  // recursive: slots of the function the loop then is
  bool keep_activation = false;
};

struct IfStatement final : Statement {
  explicit IfStatement(Position p) : Statement(StatementKind::kIf, p) {}
  struct Branch {
    ExpressionPtr test;
    Body body;
  };
  std::vector<Branch> branches;
  Body otherwise;
};

struct SetStatement final : Statement {
  explicit SetStatement(Position p) : Statement(StatementKind::kSet, p) {}
  ExpressionPtr target, value;
};

struct SetBlockStatement final : Statement {
  explicit SetBlockStatement(Position p) : Statement(StatementKind::kSetBlock, p) {}
  ExpressionPtr target;
  ExpressionPtr filter;  // a PostfixExpression without base, or null
  Body body;
  Scope scope;
};

struct WithStatement final : Statement {
  explicit WithStatement(Position p) : Statement(StatementKind::kWith, p) {}
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments;  // target, value
  Body body;
  Scope scope;
};

struct ScopeStatement final : Statement {  // generation, autoescape
  explicit ScopeStatement(Position p) : Statement(StatementKind::kScope, p) {}
  ExpressionPtr option;  // evaluated and dropped; may be null
  Body body;
  Scope scope;
};

// A macro, or the body of a call block.
struct MacroDefinition {
  Value name;  // a string; missing for call blocks
  std::vector<std::unique_ptr<NameExpression>> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  Body body;
  // Set by the scope pass.
  Scope scope;
  std::vector<uint32_t> parameter_slots;
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
  uint32_t caller_slot = 0, kwargs_slot = 0, varargs_slot = 0;
  uint32_t slots = 0;
  bool keep_activation = false;  // a macro or recursive loop inside may outlive the call
};

struct MacroStatement final : Statement {
  explicit MacroStatement(Position p) : Statement(StatementKind::kMacro, p) {}
  MacroDefinition macro;
  std::unique_ptr<NameExpression> target;
};

struct CallStatement final : Statement {
  explicit CallStatement(Position p) : Statement(StatementKind::kCall, p) {}
  MacroDefinition caller;
  ExpressionPtr call;  // a PostfixExpression whose last step is a call
};

struct FilterStatement final : Statement {
  explicit FilterStatement(Position p) : Statement(StatementKind::kFilter, p) {}
  ExpressionPtr filter;  // a PostfixExpression without base
  Body body;
  Scope scope;
};

struct BlockStatement final : Statement {
  explicit BlockStatement(Position p) : Statement(StatementKind::kBlock, p) {}
  std::string name;
  Body body;
  Scope scope;
};

struct JumpStatement final : Statement {  // kBreak, kContinue
  using Statement::Statement;
};

struct UnsupportedStatement final : Statement {  // include, import, extends: there is nothing to load from
  explicit UnsupportedStatement(Position p) : Statement(StatementKind::kUnsupported, p) {}
};

struct Tree {
  Body body;
  Scope scope;
  uint32_t slots = 0;
};

}  // namespace conclave::jinja
