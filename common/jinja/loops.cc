// SPDX-License-Identifier: Apache-2.0
// Loops and macros: running them, and the values that stand for them.
#include <absl/cleanup/cleanup.h>

#include "common/jinja/macro.h"
#include "common/jinja/printing.h"

namespace conclave::jinja {

// A function that runs while this lives: its activation, its output, its place in the call depth.
class Evaluator::FunctionCall {
 public:
  FunctionCall(Evaluator& evaluator, Activation* parent, uint32_t slots, bool keep)
      : evaluator_(evaluator), frame_(evaluator.frame_), out_(evaluator.out_) {
    ++evaluator_.runtime_.call_depth();
    Activation activation{parent, std::vector<Value>(slots)};
    if (keep) {
      evaluator_.kept_.push_back(std::make_unique<Activation>(std::move(activation)));
      evaluator_.frame_ = evaluator_.kept_.back().get();
    } else {
      activation_ = std::move(activation);
      evaluator_.frame_ = &activation_;
    }
    evaluator_.out_ = &text_;
  }
  ~FunctionCall() {
    --evaluator_.runtime_.call_depth();
    evaluator_.frame_ = frame_;
    evaluator_.out_ = out_;
  }
  FunctionCall(const FunctionCall&) = delete;
  FunctionCall& operator=(const FunctionCall&) = delete;

  absl::Status CheckDepth(uint32_t slots) const {
    Runtime& runtime = evaluator_.runtime_;
    if (runtime.call_depth() > runtime.budget().limits().depth) {
      return InvalidArgument("TEMPLATE_LIMIT: macros and recursive loops called more than {} deep",
                             runtime.budget().limits().depth);
    }
    return runtime.budget().Allocate(slots * sizeof(Value));
  }
  absl::StatusOr<Value> Result() { return evaluator_.runtime_.NewText(text_.Take()); }

 private:
  Evaluator& evaluator_;
  Activation* const frame_;
  TextBuilder* const out_;
  Activation activation_;
  TextBuilder text_;
};

absl::StatusOr<bool> Evaluator::NextItem(LoopSource& source, Value* item) {
  while (true) {
    ASSIGN_OR_RETURN(const bool more, source.cursor.Next(runtime_, item));
    if (!more || source.node->test == nullptr) return more;
    // The test has variables of its own, so that looking ahead leaves those of the body alone.
    Activation* const frame = std::exchange(frame_, source.frame);
    Enter(source.node->test_scope);
    absl::Status status = Assign(*source.node->test_target, *item);
    absl::StatusOr<Value> holds = Value();
    if (status.ok()) holds = Eval(*source.node->test);
    frame_ = frame;
    RETURN_IF_ERROR(status);
    RETURN_IF_ERROR(holds.status());
    if (holds->Truthy()) return true;
  }
}

absl::Status Evaluator::ExecFor(const ForStatement& node) {
  ASSIGN_OR_RETURN(const Value iterable, Eval(*node.iterable));
  position_ = node.iterable->at;
  if (!node.recursive) return RunLoop(node, iterable, nullptr, 0);
  ASSIGN_OR_RETURN(const Value text, CallLoop(node, frame_, iterable, 0));
  return Write(text);
}

absl::StatusOr<Value> Evaluator::CallLoop(const ForStatement& node, Activation* parent, const Value& iterable,
                                          int64_t depth) {
  FunctionCall call(*this, parent, node.slots, node.keep_activation);
  RETURN_IF_ERROR(call.CheckDepth(node.slots));
  RETURN_IF_ERROR(RunLoop(node, iterable, parent, depth));
  return call.Result();
}

absl::Status Evaluator::RunLoop(const ForStatement& node, const Value& iterable, Activation* definition,
                                int64_t depth) {
  LoopSource source;
  ASSIGN_OR_RETURN(source.cursor, Cursor::Over(iterable));
  source.node = &node;
  source.frame = frame_;
  std::shared_ptr<Loop> loop;
  if (node.extended) {
    loop = std::make_shared<Loop>(*this, source, definition, depth);
    RETURN_IF_ERROR(runtime_.budget().CheckDepth(loop->depth()));
  }
  const absl::Cleanup finish = [&] {
    if (loop != nullptr) loop->Finish();
  };
  bool any = false;
  for (Value item;;) {
    ASSIGN_OR_RETURN(const bool more, loop != nullptr ? loop->Advance(&item) : NextItem(source, &item));
    if (!more) break;
    any = true;
    if (loop != nullptr) frame_->slots[node.loop_slot] = Value::OfObject(loop);
    RETURN_IF_ERROR(Assign(*node.target, std::move(item)));
    Enter(node.body_scope);
    ASSIGN_OR_RETURN(const Flow flow, Exec(node.body));
    if (flow == Flow::kBreak) break;
  }
  Leave(node.body_scope);
  if (any || node.otherwise.empty()) return absl::OkStatus();
  Enter(node.otherwise_scope);
  RETURN_IF_ERROR(Exec(node.otherwise).status());
  Leave(node.otherwise_scope);
  return absl::OkStatus();
}

absl::Status Evaluator::BindParameters(const MacroDefinition& macro, Arguments& arguments) {
  const std::string name = macro.name.IsString() ? QuotedRepr(macro.name.AsString()) : "None";
  const size_t count = macro.parameters.size();
  bool found_caller = false;
  for (size_t i = 0; i < count; ++i) {
    Value& slot = frame_->slots[macro.parameter_slots[i]];
    if (i < arguments.positional.size()) {
      slot = arguments.positional[i];
    } else {
      slot = arguments.TakeNamed(macro.parameters[i]->name);
    }
    found_caller |= macro.parameters[i]->name == "caller";
  }
  if (macro.uses_caller && !found_caller) {
    Value caller = arguments.TakeNamed("caller");
    frame_->slots[macro.caller_slot] = caller.IsMissing() ? UndefinedHint("No caller defined") : std::move(caller);
  }
  if (macro.uses_kwargs) {
    Dict kwargs;
    for (auto& [key, value] : arguments.named) kwargs.Set(key, std::move(value), runtime_.budget());
    ASSIGN_OR_RETURN(frame_->slots[macro.kwargs_slot], runtime_.NewDict(std::move(kwargs)));
  } else if (!arguments.named.empty()) {
    for (const auto& [key, value] : arguments.named) {
      if (key.AsString() != "caller") continue;
      return Raise(ErrorType::kTypeError,
                   "macro {} was invoked with two values for the special caller argument. This is most likely a bug.",
                   name);
    }
    return Raise(ErrorType::kTypeError, "macro {} takes no keyword argument {}", name,
                 QuotedRepr(arguments.named[0].first.AsString()));
  }
  const bool extra = arguments.positional.size() > count;
  if (macro.uses_varargs) {
    std::vector<Value> rest;
    if (extra)
      rest.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(count), arguments.positional.end());
    ASSIGN_OR_RETURN(frame_->slots[macro.varargs_slot], runtime_.NewTuple(std::move(rest)));
  } else if (extra) {
    return Raise(ErrorType::kTypeError, "macro {} takes not more than {} argument(s)", name, count);
  }
  return absl::OkStatus();
}

absl::StatusOr<Value> Evaluator::CallMacro(const MacroDefinition& macro, Activation* parent, Arguments& arguments) {
  FunctionCall call(*this, parent, macro.slots, macro.keep_activation);
  RETURN_IF_ERROR(call.CheckDepth(macro.slots));
  RETURN_IF_ERROR(BindParameters(macro, arguments));
  Enter(macro.scope);
  const size_t without_default = macro.parameters.size() - macro.defaults.size();
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    if (!frame_->slots[macro.parameter_slots[i]].IsMissing()) continue;
    if (i < without_default) {
      frame_->slots[macro.parameter_slots[i]] =
          UndefinedHint(fmt::format("parameter {} was not provided", QuotedRepr(macro.parameters[i]->name)));
    } else {
      ASSIGN_OR_RETURN(Value value, Eval(*macro.defaults[i - without_default]));
      frame_->slots[macro.parameter_slots[i]] = std::move(value);
    }
  }
  RETURN_IF_ERROR(Exec(macro.body).status());
  return call.Result();
}

absl::StatusOr<std::optional<Value>> Macro::Attribute(Runtime& runtime, std::string_view name) {
  if (name == "name") {
    return std::optional<Value>(definition_.name.IsString() ? definition_.name : Value::None());
  }
  if (name == "catch_kwargs") return std::optional<Value>(Value::Bool(definition_.uses_kwargs));
  if (name == "catch_varargs") return std::optional<Value>(Value::Bool(definition_.uses_varargs));
  if (name == "caller") return std::optional<Value>(Value::Bool(definition_.uses_caller));
  if (name != "arguments") return std::optional<Value>();
  std::vector<Value> names;
  for (const auto& parameter : definition_.parameters) names.push_back(Value::String(parameter->name));
  ASSIGN_OR_RETURN(Value tuple, runtime.NewTuple(std::move(names)));
  return std::optional<Value>(std::move(tuple));
}

absl::StatusOr<Value> Macro::Call(Runtime&, Arguments& arguments) {
  return evaluator_.CallMacro(definition_, closure_, arguments);
}

absl::Status Macro::Repr(Runtime&, TextBuilder& out) const {
  out.Append("<Macro ");
  out.Append(definition_.name.IsString() ? QuotedRepr(definition_.name.AsString()) : std::string("anonymous"));
  out.Append('>');
  return absl::OkStatus();
}

Loop::Loop(Evaluator& evaluator, Evaluator::LoopSource source, Activation* definition, int64_t depth)
    : evaluator_(evaluator),
      source_(std::move(source)),
      definition_(definition),
      depth0_(depth),
      container_depth_(source_.cursor.depth() + 1) {
  if (source_.node->test == nullptr) length_ = source_.cursor.Length();
}

absl::StatusOr<bool> Loop::Peek() {
  if (has_after_) return true;
  if (rest_read_) {
    if (rest_next_ >= rest_.size()) return false;
    after_ = std::move(rest_[rest_next_++]);
    return has_after_ = true;
  }
  ASSIGN_OR_RETURN(has_after_, evaluator_.NextItem(source_, &after_));
  return has_after_;
}

absl::StatusOr<bool> Loop::Advance(Value* item) {
  ASSIGN_OR_RETURN(const bool more, Peek());
  if (!more) return false;
  has_after_ = false;
  ++index0_;
  before_ = std::move(current_);
  current_ = std::move(after_);
  *item = current_;
  return true;
}

// The number of items; where only iterating tells, the rest is read ahead.
absl::StatusOr<int64_t> Loop::Count() {
  if (length_.has_value()) return *length_;
  Runtime& runtime = evaluator_.runtime();
  const int64_t taken = index0_ + 1 + (has_after_ ? 1 : 0);
  for (Value item;;) {
    ASSIGN_OR_RETURN(const bool more, evaluator_.NextItem(source_, &item));
    if (!more) break;
    RETURN_IF_ERROR(runtime.budget().Allocate(sizeof(Value)));
    rest_.push_back(std::move(item));
  }
  rest_read_ = true;
  length_ = taken + static_cast<int64_t>(rest_.size());
  return *length_;
}

absl::StatusOr<std::optional<int64_t>> Loop::Length(Runtime&) {
  ASSIGN_OR_RETURN(const int64_t count, Count());
  return std::optional<int64_t>(count);
}

absl::StatusOr<Value> Loop::Cycle(Arguments& arguments) const {
  if (arguments.positional.empty()) return Raise(ErrorType::kTypeError, "no items for cycling given");
  return arguments.positional[static_cast<size_t>(index0_) % arguments.positional.size()];
}

absl::StatusOr<Value> Loop::Changed(Arguments& arguments) {
  Runtime& runtime = evaluator_.runtime();
  ASSIGN_OR_RETURN(Value now, runtime.NewTuple({arguments.positional.begin(), arguments.positional.end()}));
  if (last_changed_.has_value() && Equal(*last_changed_, now, runtime.budget())) return Value::Bool(false);
  RETURN_IF_ERROR(runtime.budget().CheckDepth(now.Depth() + 1));
  container_depth_ = std::max(container_depth_, now.Depth() + 1);
  last_changed_ = std::move(now);
  return Value::Bool(true);
}

absl::StatusOr<std::optional<Value>> Loop::Attribute(Runtime& runtime, std::string_view name) {
  const auto number = [](int64_t value) { return std::optional<Value>(Value::Int(value)); };
  if (name == "index") return number(index0_ + 1);
  if (name == "index0") return number(index0_);
  if (name == "first") return std::optional<Value>(Value::Bool(index0_ == 0));
  if (name == "depth") return number(depth0_ + 1);
  if (name == "depth0") return number(depth0_);
  if (name == "last" || name == "nextitem") {
    ASSIGN_OR_RETURN(const bool more, Peek());
    if (name == "last") return std::optional<Value>(Value::Bool(!more));
    return std::optional<Value>(more ? after_ : UndefinedHint("there is no next item"));
  }
  if (name == "previtem") {
    return std::optional<Value>(index0_ == 0 ? UndefinedHint("there is no previous item") : before_);
  }
  if (name == "length" || name == "revindex" || name == "revindex0") {
    ASSIGN_OR_RETURN(const int64_t count, Count());
    return number(name == "length" ? count : name == "revindex" ? count - index0_ : count - index0_ - 1);
  }
  if (name != "cycle" && name != "changed") return std::optional<Value>();
  auto self = shared_from_this();
  auto body = [self, cycle = name == "cycle"](Runtime&, Arguments& arguments) {
    return cycle ? self->Cycle(arguments) : self->Changed(arguments);
  };
  RETURN_IF_ERROR(runtime.budget().CheckDepth(container_depth_ + 1));
  return std::optional<Value>(
      Value::OfObject(std::make_shared<Function>(std::string(name), std::move(body), container_depth_ + 1)));
}

absl::StatusOr<Value> Loop::Call(Runtime&, Arguments& arguments) {
  if (definition_ == nullptr) {
    return Raise(ErrorType::kTypeError, "The loop must have the 'recursive' marker to be called recursively.");
  }
  if (arguments.positional.size() != 1 || !arguments.named.empty()) {
    return Raise(ErrorType::kTypeError, "LoopContext.__call__() takes 2 positional arguments but {} were given",
                 arguments.positional.size() + 1);
  }
  return evaluator_.CallLoop(*source_.node, definition_, arguments.positional[0], depth0_ + 1);
}

absl::Status Loop::Repr(Runtime&, TextBuilder& out) const {
  out.Append(fmt::format("<LoopContext {}/{}>", index0_ + 1, length_.value_or(index0_ + 1)));
  return absl::OkStatus();
}

}  // namespace conclave::jinja
