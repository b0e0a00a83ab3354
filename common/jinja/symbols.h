// SPDX-License-Identifier: Apache-2.0
// The names a scope knows and where they come from: the bookkeeping of jinja2's compiler (its idtracking.py), on which
// the scoping rules of templates rest.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>

#include "common/jinja/ast.h"

namespace conclave::jinja {

// A macro, a recursive loop, a call block, or the template itself: what has slots of its own when it runs.
struct FunctionScope {
  FunctionScope* parent = nullptr;
  bool has_closures = false;
  // (space, level, name) to slot: scopes of the same level share their variables, as they do in jinja2. Spaces keep
  // apart what jinja2 compiles into functions of its own without our running them as such.
  std::map<std::tuple<int, int, std::string>, uint32_t> slots;

  uint32_t Slot(int space, int level, const std::string& name) {
    return slots.try_emplace({space, level, name}, static_cast<uint32_t>(slots.size())).first->second;
  }
};

struct Load {
  enum class Kind { kParameter, kResolve, kAlias, kUndefined };
  Kind kind = Kind::kParameter;
  std::string name;                   // kResolve
  FunctionScope* function = nullptr;  // kAlias: of the variable copied
  uint32_t slot = 0;                  // kAlias
};

// The names one scope knows: jinja2's idtracking.Symbols.
class Symbols {
 public:
  Symbols(FunctionScope* function, const Symbols* parent, int space)
      : function_(function), parent_(parent), level_(parent == nullptr ? 0 : parent->level_ + 1), space_(space) {}

  struct Reference {
    FunctionScope* function = nullptr;
    uint32_t slot = 0;
  };

  // The variable of `name` in this scope or the nearest one around it.
  std::optional<Reference> Find(const std::string& name) const;
  // A name that is given a value before the scope is entered; returns its slot.
  uint32_t DeclareParameter(const std::string& name);
  // A read, and an assignment, in the order of the source: the first of them decides how the name starts out.
  void AddLoad(const std::string& name);
  void AddStore(const std::string& name);
  // Takes over what the branches of an `if` have learnt. A name only some branch stores is loaded up front.
  void Merge(std::span<const Symbols* const> branches);

  bool Stores(const std::string& name) const { return stores_.contains(name); }
  size_t size() const { return references_.size() + loads_.size() + stores_.size(); }
  FunctionScope* function() const { return function_; }
  int space() const { return space_; }
  const std::map<uint32_t, Load>& loads() const { return loads_; }

 private:
  uint32_t Define(const std::string& name, Load load);

  FunctionScope* function_;
  const Symbols* parent_;
  int level_;
  int space_;
  std::map<std::string, uint32_t> references_;
  std::map<uint32_t, Load> loads_;
  std::set<std::string> stores_;
};

// Which of some names a body reads without having set them before: jinja2's find_undeclared.
class Undeclared {
 public:
  explicit Undeclared(std::set<std::string> names) : open_(std::move(names)) {}

  void Visit(Body& body);
  bool Reads(const std::string& name) const { return read_.contains(name); }
  bool stores_loop() const { return stores_loop_; }

 private:
  void Visit(Statement& statement);
  void Visit(Node& node);

  std::set<std::string> open_, read_;
  bool stores_loop_ = false;
};

}  // namespace conclave::jinja
