// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/free_paths.h"

#include <set>

#include "common/jinja/walk.h"

namespace conclave::jinja {
namespace {

// The name a step adds to a path, or "" when the path ends before it.
std::string_view PathPart(const PostfixExpression& node, size_t i) {
  const PostfixStep& step = node.steps[i];
  const bool called = i + 1 < node.steps.size() && node.steps[i + 1].kind == PostfixStep::Kind::kCall;
  if (step.kind == PostfixStep::Kind::kAttribute && !called) return step.name.AsString();
  if (step.kind != PostfixStep::Kind::kItem || step.index->kind != ExpressionKind::kConstant) return "";
  const Value& index = static_cast<const ConstantExpression&>(*step.index).value;
  return index.IsString() && !called ? std::string_view(index.AsString()) : "";
}

// A name is the template's own where any scope around it sets it. This looks at names, not at the order of
// statements: a variable that is both read from the context and set by the template counts as its own.
class Collector {
 public:
  void Visit(Body& body) {
    for (const StatementPtr& statement : body) Visit(*statement);
  }
  void Visit(Node& node) {
    if (node.kind == ExpressionKind::kName) {
      const auto& name = static_cast<const NameExpression&>(node);
      name.use == NameExpression::Use::kLoad ? Read(name.name) : Own(name.name);
      return;
    }
    if (node.kind == ExpressionKind::kPostfix) {
      auto& chain = static_cast<PostfixExpression&>(node);
      if (chain.base != nullptr && chain.base->kind == ExpressionKind::kName) {
        std::string path = static_cast<const NameExpression&>(*chain.base).name;
        for (size_t i = 0; i < chain.steps.size(); ++i) {
          const std::string_view part = PathPart(chain, i);
          if (part.empty()) break;
          path.append(".").append(part);
        }
        Read(path);
      }
    }
    bool base = node.kind == ExpressionKind::kPostfix;
    ForEachChild(node, [&](Node& child) {
      const bool named_base = std::exchange(base, false) && child.kind == ExpressionKind::kName &&
                              static_cast<PostfixExpression&>(node).base.get() == &child;
      if (!named_base) Visit(child);
    });
  }

  std::vector<std::string> Take() {
    std::vector<std::string> free;
    for (const std::string& path : paths_) {
      const std::string name = path.substr(0, path.find('.'));
      if (!own_.contains(name) && FindGlobal(name).IsUndefined()) free.push_back(path);
    }
    return free;
  }

 private:
  void Visit(Statement& statement) {
    if (statement.kind == StatementKind::kFor) Own("loop");
    if (statement.kind == StatementKind::kMacro || statement.kind == StatementKind::kCall) {
      for (const char* name : {"caller", "kwargs", "varargs"}) Own(name);
    }
    if (statement.kind == StatementKind::kMacro) Own(static_cast<MacroStatement&>(statement).target->name);
    ForEachChild(
        statement, [this](Node& node) { Visit(node); }, [this](Statement& inner) { Visit(inner); });
  }
  void Read(std::string path) { paths_.insert(std::move(path)); }
  void Own(std::string name) { own_.insert(std::move(name)); }

  std::set<std::string> paths_, own_;
};

}  // namespace

std::vector<std::string> FreePaths(Tree& tree) {
  Collector collector;
  collector.Visit(tree.body);
  return collector.Take();
}

std::vector<std::string> FreePaths(Node& expression) {
  Collector collector;
  collector.Visit(expression);
  return collector.Take();
}

}  // namespace conclave::jinja
