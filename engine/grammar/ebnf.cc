// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/ebnf.h"

#include <string>

#include "absl/container/flat_hash_map.h"
#include "engine/grammar/characters.h"
#include "engine/grammar/sequence_stack.h"

namespace conclave::engine::grammar {
namespace {

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class EbnfParser {
 public:
  explicit EbnfParser(std::string_view source) : cursor_(source) { RuleOf("root", 0); }

  absl::StatusOr<std::shared_ptr<const Automaton>> Compile() {
    SkipSpace();
    if (cursor_.done()) return cursor_.Error(0, "there is no rule; one named \"root\" is needed");
    while (!cursor_.done() && !builder_.full()) RETURN_IF_ERROR(Rule());
    const auto* first = static_cast<const std::pair<const std::string, Named>*>(nullptr);
    for (const auto& entry : rules_) {
      if (entry.second.defined) continue;
      if (first == nullptr || entry.second.first_use < first->second.first_use) first = &entry;
    }
    if (first != nullptr && !builder_.full()) {
      return cursor_.Error(first->second.first_use, "there is no rule \"{}\"", first->first);
    }
    return builder_.Build();
  }

 private:
  struct Named {
    int32_t id;
    size_t first_use;
    bool defined = false;
  };

  void SkipSpace() {
    for (;;) {
      if (cursor_.peek() == '#') {
        while (!cursor_.done() && cursor_.peek() != '\n') cursor_.Skip(1);
      } else if (!cursor_.Take(" ") && !cursor_.Take("\n") && !cursor_.Take("\t") && !cursor_.Take("\r")) {
        return;
      }
    }
  }

  Named& RuleOf(std::string_view name, size_t position) {
    const auto [it, added] = rules_.try_emplace(std::string(name), Named{.id = -1, .first_use = position});
    if (added) it->second.id = builder_.AddRule("the rule \"" + std::string(name) + "\"");
    return it->second;
  }

  std::string_view Name() {
    const size_t begin = cursor_.position();
    while (IsNameCharacter(cursor_.peek())) cursor_.Skip(1);
    return cursor_.From(begin);
  }

  // A name that "::=" follows: the next rule begins.
  bool AtRule() const {
    Cursor ahead = cursor_;
    while (IsNameCharacter(ahead.peek())) ahead.Skip(1);
    if (ahead.position() == cursor_.position()) return false;
    while (ahead.Take(" ") || ahead.Take("\t")) continue;
    return ahead.StartsWith("::=");
  }

  absl::Status Rule() {
    const size_t begin = cursor_.position();
    if (!AtRule()) return cursor_.Error(begin, "a rule is expected: name ::= ..");
    Named& rule = RuleOf(Name(), begin);
    if (rule.defined) return cursor_.Error(begin, "this rule has been defined before");
    rule.defined = true;
    const int32_t id = rule.id;
    SkipSpace();
    cursor_.Take("::=");
    SequenceStack groups(&builder_);
    SkipSpace();
    while (!cursor_.done() && !AtRule() && !builder_.full()) {
      RETURN_IF_ERROR(Element(&groups));
      SkipSpace();
    }
    if (groups.depth() > 0 && !builder_.full()) return cursor_.Error(groups.opened_at(), "this \"(\" has no \")\"");
    builder_.Define(id, groups.Close());
    return absl::OkStatus();
  }

  absl::Status Element(SequenceStack* groups) {
    const size_t begin = cursor_.position();
    if (cursor_.Take("|")) {
      groups->Alternate();
      return absl::OkStatus();
    }
    if (cursor_.Take("(")) {
      if (groups->depth() >= kNestingMax) return cursor_.Error(begin, "groups nest deeper than {}", kNestingMax);
      groups->Open(begin);
      return absl::OkStatus();
    }
    if (cursor_.Take(")")) {
      if (groups->depth() == 0) return cursor_.Error(begin, "this \")\" has no \"(\"");
      return AppendCounted(groups->Close(), groups);
    }
    if (cursor_.Take("\"")) return Literal(begin, groups);
    if (cursor_.Take("[")) {
      ASSIGN_OR_RETURN(const CodePointSet set, cursor_.Class());
      return AppendCounted(builder_.Characters(set), groups);
    }
    if (cursor_.Take(".")) return AppendCounted(builder_.Characters(CodePointSet::All()), groups);
    const std::string_view name = Name();
    if (name.empty()) {
      return cursor_.Error(begin, "\"{}\" is unexpected; known: \"..\", [..], ., name, (..), |, *, +, ?, {{m,n}}",
                           cursor_.peek() >= ' ' && cursor_.peek() < 127 ? cursor_.peek() : '?');
    }
    return AppendCounted(builder_.Call(RuleOf(name, begin).id), groups);
  }

  absl::Status Literal(size_t begin, SequenceStack* groups) {
    AutomatonBuilder::Part literal = builder_.Empty();
    while (!cursor_.Take("\"")) {
      if (cursor_.done() || cursor_.peek() == '\n') return cursor_.Error(begin, "this literal has no closing quote");
      CodePointSet set;
      if (cursor_.Take("\\")) {
        ASSIGN_OR_RETURN(set, cursor_.Escape());
      } else {
        ASSIGN_OR_RETURN(const char32_t c, cursor_.Character());
        set.Add(c, c);
      }
      literal = builder_.Then(literal, builder_.Characters(set));
      if (builder_.full()) return absl::OkStatus();
    }
    return AppendCounted(literal, groups);
  }

  absl::Status AppendCounted(const AutomatonBuilder::Part& part, SequenceStack* groups) {
    SkipSpace();
    const size_t begin = cursor_.position();
    ASSIGN_OR_RETURN(const Cursor::Count count, cursor_.Quantifier());
    groups->Append(cursor_.position() > begin ? builder_.Repeat(part, count.min, count.max) : part);
    return absl::OkStatus();
  }

  Cursor cursor_;
  AutomatonBuilder builder_;
  absl::flat_hash_map<std::string, Named> rules_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Automaton>> CompileEbnf(std::string_view source) {
  return EbnfParser(source).Compile();
}

}  // namespace conclave::engine::grammar
