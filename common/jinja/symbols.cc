// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/symbols.h"

#include "common/jinja/walk.h"

namespace conclave::jinja {

std::optional<Symbols::Reference> Symbols::Find(const std::string& name) const {
  for (const Symbols* at = this; at != nullptr; at = at->parent_) {
    const auto found = at->references_.find(name);
    if (found != at->references_.end()) return Reference{at->function_, found->second};
  }
  return std::nullopt;
}

uint32_t Symbols::DeclareParameter(const std::string& name) {
  stores_.insert(name);
  return Define(name, Load{Load::Kind::kParameter, "", nullptr, 0});
}

void Symbols::AddLoad(const std::string& name) {
  if (!Find(name).has_value()) Define(name, Load{Load::Kind::kResolve, name, nullptr, 0});
}

void Symbols::AddStore(const std::string& name) {
  stores_.insert(name);
  if (references_.contains(name)) return;
  const auto outer = parent_ != nullptr ? parent_->Find(name) : std::nullopt;
  Define(name, outer.has_value() ? Load{Load::Kind::kAlias, "", outer->function, outer->slot}
                                 : Load{Load::Kind::kUndefined, "", nullptr, 0});
}

void Symbols::Merge(std::span<const Symbols* const> branches) {
  std::set<std::string> stored;
  for (const Symbols* branch : branches) stored.insert(branch->stores_.begin(), branch->stores_.end());
  for (const std::string& name : stores_) stored.erase(name);
  for (const Symbols* branch : branches) {
    for (const auto& [name, slot] : branch->references_) references_[name] = slot;
    for (const auto& [slot, load] : branch->loads_) loads_[slot] = load;
    stores_.insert(branch->stores_.begin(), branch->stores_.end());
  }
  for (const std::string& name : stored) {
    const auto outer = parent_ != nullptr ? parent_->Find(name) : std::nullopt;
    loads_[references_.at(name)] = outer.has_value() ? Load{Load::Kind::kAlias, "", outer->function, outer->slot}
                                                     : Load{Load::Kind::kResolve, name, nullptr, 0};
  }
}

uint32_t Symbols::Define(const std::string& name, Load load) {
  const uint32_t slot = function_->Slot(space_, level_, name);
  references_[name] = slot;
  loads_[slot] = std::move(load);
  return slot;
}

void Undeclared::Visit(Body& body) {
  for (const StatementPtr& statement : body) Visit(*statement);
}

void Undeclared::Visit(Statement& statement) {
  if (statement.kind == StatementKind::kBlock) return;
  ForEachChild(
      statement, [this](Node& node) { Visit(node); }, [this](Statement& inner) { Visit(inner); });
}

void Undeclared::Visit(Node& node) {
  if (node.kind == ExpressionKind::kName) {
    const auto& name = static_cast<NameExpression&>(node);
    const bool load = name.use == NameExpression::Use::kLoad;
    if (name.use == NameExpression::Use::kStore && name.name == "loop") stores_loop_ = true;
    if (load && open_.contains(name.name)) {
      read_.insert(name.name);
    } else {
      open_.erase(name.name);
    }
    return;
  }
  if (node.kind == ExpressionKind::kNamespaceTarget) return;
  ForEachChild(node, [this](Node& inner) { Visit(inner); });
}

}  // namespace conclave::jinja
