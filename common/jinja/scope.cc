// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/scope.h"

#include <set>
#include <string>

#include "common/check.h"
#include "common/jinja/printing.h"
#include "common/jinja/symbols.h"
#include "common/jinja/walk.h"

namespace conclave::jinja {
namespace {

ExpressionPtr CloneTarget(const Node& target) {
  if (target.kind == ExpressionKind::kName) {
    const auto& name = static_cast<const NameExpression&>(target);
    return std::make_unique<NameExpression>(name.at, name.name, name.use);
  }
  auto tuple = std::make_unique<SequenceExpression>(target.kind, target.at);
  for (const ExpressionPtr& item : static_cast<const SequenceExpression&>(target).items) {
    tuple->items.push_back(CloneTarget(*item));
  }
  return tuple;
}

class Resolver {
 public:
  // Collects the names of statements that belong to the scope of `symbols` itself, not to scopes inside.
  void Analyze(Symbols& symbols, Body& body) {
    for (const StatementPtr& statement : body) Analyze(symbols, *statement);
  }

  void Analyze(Symbols& symbols, Node& node) {
    if (node.kind == ExpressionKind::kName) {
      const auto& name = static_cast<NameExpression&>(node);
      if (name.use == NameExpression::Use::kParameter) symbols.DeclareParameter(name.name);
      if (name.use == NameExpression::Use::kStore) symbols.AddStore(name.name);
      if (name.use == NameExpression::Use::kLoad) symbols.AddLoad(name.name);
      return;
    }
    ForEachChild(node, [&](Node& inner) { Analyze(symbols, inner); });
  }

  // Gives the names in `body` their variables; `symbols` is complete.
  absl::Status Bind(const Symbols& symbols, Body& body, bool soft) {
    for (const StatementPtr& statement : body) RETURN_IF_ERROR(Bind(symbols, *statement, soft));
    return absl::OkStatus();
  }

  absl::Status Bind(const Symbols& symbols, Node& node, bool soft) {
    if (node.kind == ExpressionKind::kName) {
      auto& name = static_cast<NameExpression&>(node);
      const auto found = symbols.Find(name.name);
      CONCLAVE_CHECK(found.has_value());
      name.variable = ToVariable(symbols.function(), found->function, found->slot);
      name.undefined = Value::Undefined(std::make_shared<const UndefinedInfo>(
          UndefinedInfo{UndefinedInfo::Cause::kName, Value::String(name.name), "", ""}));
      return absl::OkStatus();
    }
    soft = soft || node.kind == ExpressionKind::kConditional;
    if (node.kind == ExpressionKind::kPostfix && !soft) {
      RETURN_IF_ERROR(CheckKnown(static_cast<PostfixExpression&>(node)));
    }
    absl::Status status;
    ForEachChild(node, [&](Node& inner) {
      if (status.ok()) status = Bind(symbols, inner, soft);
    });
    return status;
  }

  Scope Finish(const Symbols& symbols, const Symbols* template_symbols = nullptr) {
    Scope scope;
    for (const auto& [slot, load] : symbols.loads()) {
      scope.slots.push_back(slot);
      if (load.kind == Load::Kind::kParameter) continue;
      ScopeLoad out;
      out.slot = slot;
      out.kind = load.kind == Load::Kind::kAlias     ? ScopeLoad::Kind::kAlias
                 : load.kind == Load::Kind::kResolve ? ScopeLoad::Kind::kResolve
                                                     : ScopeLoad::Kind::kUndefined;
      if (load.kind == Load::Kind::kAlias) out.from = ToVariable(symbols.function(), load.function, load.slot);
      if (load.kind == Load::Kind::kResolve) {
        out.name = load.name;
        out.global = FindGlobal(load.name);
        if (template_symbols != nullptr && template_symbols->Stores(load.name)) {
          const auto found = template_symbols->Find(load.name);
          out.has_from = true;
          out.from = ToVariable(symbols.function(), found->function, found->slot);
        }
      }
      scope.loads.push_back(std::move(out));
    }
    return scope;
  }

  void SetTemplate(const Symbols* symbols) { template_ = symbols; }

 private:
  static Variable ToVariable(const FunctionScope* from, const FunctionScope* to, uint32_t slot) {
    Variable variable{0, slot};
    for (; from != to; from = from->parent) ++variable.hops;
    return variable;
  }

  static absl::Status CheckKnown(const PostfixExpression& node) {
    // jinja2 compiles the outermost first.
    for (size_t i = node.steps.size(); i-- > 0;) {
      const PostfixStep& step = node.steps[i];
      const bool filter = step.kind == PostfixStep::Kind::kFilter;
      if ((filter && step.filter == nullptr) || (step.kind == PostfixStep::Kind::kTest && step.test == nullptr)) {
        return AtPosition(Raise(ErrorType::kTemplateAssertionError, "No {} named {}.", filter ? "filter" : "test",
                                QuotedRepr(step.name.AsString())),
                          step.at.line, step.at.column);
      }
    }
    return absl::OkStatus();
  }

  void Analyze(Symbols& symbols, Statement& statement) {
    switch (statement.kind) {
      case StatementKind::kOutput:
        for (const ExpressionPtr& item : static_cast<OutputStatement&>(statement).items) Analyze(symbols, *item);
        return;
      case StatementKind::kFor:
        return Analyze(symbols, *static_cast<ForStatement&>(statement).iterable);
      case StatementKind::kIf:
        return AnalyzeIf(symbols, static_cast<IfStatement&>(statement));
      case StatementKind::kSet:
        Analyze(symbols, *static_cast<SetStatement&>(statement).value);
        return Analyze(symbols, *static_cast<SetStatement&>(statement).target);
      case StatementKind::kSetBlock:
        return Analyze(symbols, *static_cast<SetBlockStatement&>(statement).target);
      case StatementKind::kWith:
        for (const auto& [target, value] : static_cast<WithStatement&>(statement).assignments) Analyze(symbols, *value);
        return;
      case StatementKind::kMacro:
        return Analyze(symbols, *static_cast<MacroStatement&>(statement).target);
      case StatementKind::kCall:
        return Analyze(symbols, *static_cast<CallStatement&>(statement).call);
      case StatementKind::kFilter:
        return Analyze(symbols, *static_cast<FilterStatement&>(statement).filter);
      default:
        return;
    }
  }

  void AnalyzeIf(Symbols& symbols, IfStatement& node) {
    if (work_ > kMaxScopeWork) return;  // Bind reports it before it looks at any name
    Analyze(symbols, *node.branches[0].test);
    Symbols first = Copy(symbols), others = Copy(symbols), otherwise = Copy(symbols);
    Analyze(first, node.branches[0].body);
    for (size_t i = 1; i < node.branches.size(); ++i) {
      Analyze(others, *node.branches[i].test);
      Symbols branch = Copy(others);
      Analyze(branch, node.branches[i].body);
      const Symbols* merged[] = {&branch};
      others.Merge(merged);
    }
    Analyze(otherwise, node.otherwise);
    const Symbols* merged[] = {&first, &others, &otherwise};
    symbols.Merge(merged);
  }

  // Copies are what makes this pass more than linear; their number is bounded.
  Symbols Copy(const Symbols& symbols) {
    work_ += symbols.size();
    return symbols;
  }

  absl::Status Bind(const Symbols& symbols, Statement& statement, bool soft) {
    if (work_ > kMaxScopeWork) {
      return InvalidArgument("TEMPLATE_LIMIT: too many variables in too many branches; split the template");
    }
    switch (statement.kind) {
      case StatementKind::kOutput:
      case StatementKind::kSet: {
        absl::Status status;
        ForEachChild(
            statement,
            [&](Node& node) {
              if (status.ok()) status = Bind(symbols, node, soft);
            },
            [](Statement&) {});
        return status;
      }
      case StatementKind::kFor:
        return BindFor(symbols, static_cast<ForStatement&>(statement), soft);
      case StatementKind::kIf: {
        auto& node = static_cast<IfStatement&>(statement);
        for (IfStatement::Branch& branch : node.branches) {
          RETURN_IF_ERROR(Bind(symbols, *branch.test, true));
          RETURN_IF_ERROR(Bind(symbols, branch.body, true));
        }
        return Bind(symbols, node.otherwise, true);
      }
      case StatementKind::kSetBlock:
        return BindSetBlock(symbols, static_cast<SetBlockStatement&>(statement), soft);
      case StatementKind::kWith:
        return BindWith(symbols, static_cast<WithStatement&>(statement), soft);
      case StatementKind::kScope: {
        auto& node = static_cast<ScopeStatement&>(statement);
        Symbols inner(symbols.function(), &symbols, symbols.space());
        if (node.option != nullptr) Analyze(inner, *node.option);
        Analyze(inner, node.body);
        if (node.option != nullptr) RETURN_IF_ERROR(Bind(inner, *node.option, false));
        RETURN_IF_ERROR(Bind(inner, node.body, false));
        node.scope = Finish(inner);
        return absl::OkStatus();
      }
      case StatementKind::kMacro: {
        auto& node = static_cast<MacroStatement&>(statement);
        RETURN_IF_ERROR(BindMacro(symbols, node.macro, node.at));
        return Bind(symbols, *node.target, soft);
      }
      case StatementKind::kCall: {
        auto& node = static_cast<CallStatement&>(statement);
        RETURN_IF_ERROR(BindMacro(symbols, node.caller, node.at));
        return Bind(symbols, *node.call, soft);
      }
      case StatementKind::kFilter: {
        auto& node = static_cast<FilterStatement&>(statement);
        Symbols inner(symbols.function(), &symbols, symbols.space());
        Analyze(inner, node.body);
        Analyze(inner, *node.filter);
        RETURN_IF_ERROR(Bind(inner, node.body, false));
        RETURN_IF_ERROR(Bind(inner, *node.filter, false));
        node.scope = Finish(inner);
        return absl::OkStatus();
      }
      case StatementKind::kBlock: {
        auto& node = static_cast<BlockStatement&>(statement);
        Symbols inner(symbols.function(), nullptr, ++spaces_);
        Analyze(inner, node.body);
        RETURN_IF_ERROR(Bind(inner, node.body, false));
        node.scope = Finish(inner, template_);
        return absl::OkStatus();
      }
      default:
        return absl::OkStatus();
    }
  }

  absl::Status BindFor(const Symbols& symbols, ForStatement& node, bool soft) {
    RETURN_IF_ERROR(Bind(symbols, *node.iterable, soft));
    FunctionScope own{symbols.function(), false, {}};
    FunctionScope* function = node.recursive ? &own : symbols.function();
    if (node.recursive) symbols.function()->has_closures = true;

    Undeclared undeclared({"loop"});
    undeclared.Visit(node.body);
    Undeclared everywhere({});
    everywhere.Visit(node.otherwise);
    node.extended = node.recursive || undeclared.Reads("loop");
    // `loop` may be kept, and asked for its next item, after the function has ended; that runs the test.
    if (node.extended && node.test != nullptr) function->has_closures = true;
    Symbols body(function, &symbols, node.recursive ? 0 : symbols.space());
    if (node.extended) node.loop_slot = body.DeclareParameter("loop");
    AnalyzeParameters(body, *node.target);
    if (undeclared.stores_loop() || everywhere.stores_loop() || stores_loop_target_) {
      return AtPosition(
          Raise(ErrorType::kTemplateAssertionError, "Can't assign to special loop variable in for-loop target"),
          node.at.line, node.at.column);
    }
    Analyze(body, node.body);
    Symbols otherwise(function, &symbols, node.recursive ? 0 : symbols.space());
    Analyze(otherwise, node.otherwise);

    RETURN_IF_ERROR(Bind(body, *node.target, false));
    RETURN_IF_ERROR(Bind(body, node.body, false));
    RETURN_IF_ERROR(Bind(otherwise, node.otherwise, false));
    node.body_scope = Finish(body);
    node.otherwise_scope = Finish(otherwise);
    if (node.test != nullptr) {
      Symbols test(function, &symbols, ++spaces_);
      node.test_target = CloneTarget(*node.target);
      AnalyzeParameters(test, *node.test_target);
      Analyze(test, *node.test);
      RETURN_IF_ERROR(Bind(test, *node.test_target, false));
      RETURN_IF_ERROR(Bind(test, *node.test, false));
      node.test_scope = Finish(test);
    }
    node.slots = static_cast<uint32_t>(own.slots.size());
    node.keep_activation = own.has_closures;
    return absl::OkStatus();
  }

  void AnalyzeParameters(Symbols& symbols, Node& target) {
    stores_loop_target_ = false;
    DeclareTargets(symbols, target);
  }

  void DeclareTargets(Symbols& symbols, Node& target) {
    if (target.kind == ExpressionKind::kName) {
      const std::string& name = static_cast<NameExpression&>(target).name;
      stores_loop_target_ |= name == "loop";
      symbols.DeclareParameter(name);
      return;
    }
    ForEachChild(target, [&](Node& inner) { DeclareTargets(symbols, inner); });
  }

  absl::Status BindSetBlock(const Symbols& symbols, SetBlockStatement& node, bool soft) {
    Symbols inner(symbols.function(), &symbols, symbols.space());
    Analyze(inner, node.body);
    if (node.filter != nullptr) Analyze(inner, *node.filter);
    RETURN_IF_ERROR(Bind(symbols, *node.target, soft));
    RETURN_IF_ERROR(Bind(inner, node.body, false));
    if (node.filter != nullptr) RETURN_IF_ERROR(Bind(inner, *node.filter, false));
    node.scope = Finish(inner);
    return absl::OkStatus();
  }

  absl::Status BindWith(const Symbols& symbols, WithStatement& node, bool soft) {
    Symbols inner(symbols.function(), &symbols, symbols.space());
    for (const auto& [target, value] : node.assignments) Analyze(inner, *target);
    Analyze(inner, node.body);
    for (const auto& [target, value] : node.assignments) {
      RETURN_IF_ERROR(Bind(inner, *target, false));
      RETURN_IF_ERROR(Bind(symbols, *value, soft));
    }
    RETURN_IF_ERROR(Bind(inner, node.body, false));
    node.scope = Finish(inner);
    return absl::OkStatus();
  }

  absl::Status BindMacro(const Symbols& symbols, MacroDefinition& macro, Position at) {
    symbols.function()->has_closures = true;
    FunctionScope own{symbols.function(), false, {}};
    Symbols inner(&own, &symbols, 0);
    std::set<std::string> parameters;
    for (const auto& parameter : macro.parameters) {
      macro.parameter_slots.push_back(inner.DeclareParameter(parameter->name));
      parameters.insert(parameter->name);
    }
    for (const ExpressionPtr& fallback : macro.defaults) Analyze(inner, *fallback);
    Analyze(inner, macro.body);

    Undeclared undeclared({"caller", "kwargs", "varargs"});
    undeclared.Visit(macro.body);
    macro.uses_caller = undeclared.Reads("caller");
    macro.uses_kwargs = undeclared.Reads("kwargs") && !parameters.contains("kwargs");
    macro.uses_varargs = undeclared.Reads("varargs") && !parameters.contains("varargs");
    if (macro.uses_caller && parameters.contains("caller")) {
      const size_t without_default = macro.parameters.size() - macro.defaults.size();
      for (size_t i = 0; i < without_default; ++i) {
        if (macro.parameters[i]->name != "caller") continue;
        return AtPosition(Raise(ErrorType::kTemplateAssertionError,
                                "When defining macros or call blocks the special \"caller\" argument must be omitted "
                                "or be given a default."),
                          at.line, at.column);
      }
    } else if (macro.uses_caller) {
      macro.caller_slot = inner.DeclareParameter("caller");
    }
    if (macro.uses_kwargs) macro.kwargs_slot = inner.DeclareParameter("kwargs");
    if (macro.uses_varargs) macro.varargs_slot = inner.DeclareParameter("varargs");

    for (const auto& parameter : macro.parameters) RETURN_IF_ERROR(Bind(inner, *parameter, false));
    for (const ExpressionPtr& fallback : macro.defaults) RETURN_IF_ERROR(Bind(inner, *fallback, false));
    RETURN_IF_ERROR(Bind(inner, macro.body, false));
    macro.scope = Finish(inner);
    macro.slots = static_cast<uint32_t>(own.slots.size());
    macro.keep_activation = own.has_closures;
    return absl::OkStatus();
  }

  const Symbols* template_ = nullptr;
  size_t work_ = 0;
  int spaces_ = 0;
  bool stores_loop_target_ = false;
};

}  // namespace

absl::Status ResolveScopes(Tree* tree) {
  FunctionScope function;
  Symbols symbols(&function, nullptr, 0);
  Resolver resolver;
  resolver.Analyze(symbols, tree->body);
  resolver.SetTemplate(&symbols);
  RETURN_IF_ERROR(resolver.Bind(symbols, tree->body, false));
  tree->scope = resolver.Finish(symbols);
  tree->slots = static_cast<uint32_t>(function.slots.size());
  return absl::OkStatus();
}

absl::Status ResolveScopes(Node* expression, Scope* scope, uint32_t* slots) {
  FunctionScope function;
  Symbols symbols(&function, nullptr, 0);
  Resolver resolver;
  resolver.Analyze(symbols, *expression);
  RETURN_IF_ERROR(resolver.Bind(symbols, *expression, false));
  *scope = resolver.Finish(symbols);
  *slots = static_cast<uint32_t>(function.slots.size());
  return absl::OkStatus();
}

}  // namespace conclave::jinja
