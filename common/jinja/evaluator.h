// SPDX-License-Identifier: Apache-2.0
// Runs a resolved tree once, over one context.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/ast.h"
#include "common/jinja/runtime.h"

namespace conclave::jinja {

// The variables of one running function: the template, a macro, a recursive loop.
struct Activation {
  Activation* parent = nullptr;
  std::vector<Value> slots;
};

class Evaluator {
 public:
  // `context` (a dict) and `runtime` must outlive the evaluator.
  Evaluator(Runtime& runtime, const Dict& context) : runtime_(runtime), context_(context) {}
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  absl::StatusOr<Text> Render(const Tree& tree);
  absl::StatusOr<Value> Evaluate(const Node& expression, const Scope& scope, uint32_t slots);
  // Where evaluation was when an error came up.
  Position position() const { return position_; }

  // What loops and macros, being values, call back.
  struct LoopSource {
    Cursor cursor;
    const ForStatement* node = nullptr;
    Activation* frame = nullptr;  // where the loop's test runs
  };
  absl::StatusOr<bool> NextItem(LoopSource& source, Value* item);
  absl::StatusOr<Value> CallLoop(const ForStatement& node, Activation* parent, const Value& iterable, int64_t depth);
  absl::StatusOr<Value> CallMacro(const MacroDefinition& macro, Activation* parent, Arguments& arguments);
  Runtime& runtime() { return runtime_; }

 private:
  enum class Flow { kNext, kBreak, kContinue };
  class FunctionCall;

  absl::StatusOr<Value> Eval(const Node& node);
  absl::StatusOr<Value> EvalCompound(const Node& node);
  absl::StatusOr<Value> EvalSequence(const SequenceExpression& node);
  absl::StatusOr<Value> EvalDict(const DictExpression& node);
  absl::StatusOr<Value> EvalUnary(const UnaryExpression& node);
  absl::StatusOr<Value> EvalArithmetic(const ArithmeticExpression& node);
  absl::StatusOr<Value> EvalLogical(const LogicalExpression& node);
  absl::StatusOr<Value> EvalComparison(const ComparisonExpression& node);
  absl::StatusOr<Value> EvalConcatenation(const ConcatenationExpression& node);
  absl::StatusOr<Value> EvalConditional(const ConditionalExpression& node);
  absl::StatusOr<Value> EvalPostfix(const PostfixExpression& node, Value input, const Value* caller);
  absl::StatusOr<Value> ApplyStep(const PostfixStep& step, Value value, const Value* caller);
  absl::StatusOr<Value> ApplyFilter(const PostfixStep& step, const Value& value);
  absl::StatusOr<Value> ApplyTest(const PostfixStep& step, const Value& value);
  absl::Status EvalArguments(const CallArguments& node, Arguments* arguments);
  absl::StatusOr<Value> EvalOptional(const ExpressionPtr& node);

  absl::StatusOr<Flow> Exec(const Body& body);
  absl::StatusOr<Flow> ExecStatement(const Statement& statement);
  absl::Status ExecOutput(const OutputStatement& node);
  absl::Status AppendResult(const Node& node);
  absl::StatusOr<Flow> ExecIf(const IfStatement& node);
  absl::Status ExecFor(const ForStatement& node);
  absl::Status RunLoop(const ForStatement& node, const Value& iterable, Activation* definition, int64_t depth);
  absl::Status ExecSet(const SetStatement& node);
  absl::Status ExecSetBlock(const SetBlockStatement& node);
  absl::StatusOr<Flow> ExecWith(const WithStatement& node);
  absl::Status ExecCall(const CallStatement& node);
  absl::Status ExecFilter(const FilterStatement& node);
  absl::StatusOr<Flow> ExecScoped(const Scope& scope, const Body& body);
  // Runs `body` with its output collected.
  absl::StatusOr<Value> Capture(const Body& body);

  absl::Status CheckNamespaces(const Node& target);
  absl::Status Assign(const Node& target, Value value);
  absl::Status BindParameters(const MacroDefinition& macro, Arguments& arguments);

  Value& Slot(Variable variable) {
    Activation* frame = frame_;
    for (uint32_t i = 0; i < variable.hops; ++i) frame = frame->parent;
    return frame->slots[variable.slot];
  }
  void Enter(const Scope& scope);
  void Leave(const Scope& scope);
  absl::Status Write(const Value& value);

  Runtime& runtime_;
  const Dict& context_;
  Activation* frame_ = nullptr;
  TextBuilder* out_ = nullptr;
  Position position_;
  // Activations that a macro or loop may still refer to after their function has ended.
  std::vector<std::unique_ptr<Activation>> kept_;
};

}  // namespace conclave::jinja
