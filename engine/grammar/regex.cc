// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/regex.h"

#include "engine/grammar/characters.h"
#include "engine/grammar/sequence_stack.h"

namespace conclave::engine::grammar {
namespace {

class RegexParser {
 public:
  RegexParser(std::string_view source, bool search, CharacterWriter characters, AutomatonBuilder* builder)
      : cursor_(source), search_(search), characters_(characters), builder_(builder), groups_(builder) {}

  absl::StatusOr<AutomatonBuilder::Part> Parse() {
    BeginAlternative();
    while (!cursor_.done() && !builder_->full()) RETURN_IF_ERROR(Next());
    if (builder_->full()) return builder_->Empty();  // Build says so
    if (groups_.depth() > 0) return cursor_.Error(groups_.opened_at(), "this \"(\" has no \")\"");
    EndAlternative();
    return groups_.Close();
  }

 private:
  void AppendAnything() { groups_.Append(builder_->Repeat(characters_(CodePointSet::All()), 0, -1)); }
  // At the ends of a whole alternative.
  void BeginAlternative() {
    anchored_at_end_ = false;
    if (!cursor_.Take("^") && search_) AppendAnything();
  }
  void EndAlternative() {
    if (!anchored_at_end_ && search_) AppendAnything();
  }

  absl::Status Next() {
    const size_t begin = cursor_.position();
    if (cursor_.Take("|")) {
      if (groups_.depth() == 0) EndAlternative();
      groups_.Alternate();
      if (groups_.depth() == 0) BeginAlternative();
      return absl::OkStatus();
    }
    if (cursor_.Take("(")) return Open(begin);
    if (cursor_.Take(")")) {
      if (groups_.depth() == 0) return cursor_.Error(begin, "this \")\" has no \"(\"");
      return AppendCounted(groups_.Close());
    }
    if (cursor_.Take("$")) {
      if (groups_.depth() > 0 || !(cursor_.done() || cursor_.peek() == '|')) {
        return cursor_.Error(begin, "\"$\" is supported at the end of an alternative of the whole only");
      }
      anchored_at_end_ = true;
      return absl::OkStatus();
    }
    switch (cursor_.peek()) {
      case '^':
        return cursor_.Error(begin, "\"^\" is supported at the beginning of an alternative of the whole only");
      case '*':
      case '+':
      case '?':
      case '{':
        return cursor_.Error(begin, "nothing stands before this \"{}\" to be repeated", cursor_.peek());
      default:
        break;
    }
    ASSIGN_OR_RETURN(const CodePointSet set, CharacterSet());
    return AppendCounted(characters_(set));
  }

  absl::Status Open(size_t begin) {
    if (groups_.depth() >= kNestingMax) {
      return cursor_.Error(begin, "groups nest deeper than {}", kNestingMax);
    }
    if (cursor_.Take("?P<") || (cursor_.StartsWith("?<") && cursor_.peek(2) != '=' && cursor_.peek(2) != '!')) {
      while (!cursor_.done() && cursor_.peek() != '>') cursor_.Skip(1);
      if (!cursor_.Take(">")) return cursor_.Error(begin, "this group's name has no \">\"");
    } else if (cursor_.StartsWith("?") && !cursor_.Take("?:")) {
      return cursor_.Error(begin, "groups with \"(?{}\" are not supported (look-around, flags, ..)", cursor_.peek(1));
    }
    groups_.Open(begin);
    return absl::OkStatus();
  }

  absl::StatusOr<CodePointSet> CharacterSet() {
    if (cursor_.Take(".")) return CodePointSet{{'\n', '\n'}}.Complement();
    if (cursor_.Take("[")) return cursor_.Class();
    if (cursor_.Take("\\")) return cursor_.Escape();
    ASSIGN_OR_RETURN(const char32_t c, cursor_.Character());
    return CodePointSet{{c, c}};
  }

  absl::Status AppendCounted(const AutomatonBuilder::Part& part) {
    const size_t begin = cursor_.position();
    ASSIGN_OR_RETURN(const Cursor::Count count, cursor_.Quantifier());
    const bool counted = cursor_.position() > begin;
    groups_.Append(counted ? builder_->Repeat(part, count.min, count.max) : part);
    if (!counted) return absl::OkStatus();
    cursor_.Take("?");  // as few as possible: the same texts
    const char next = cursor_.peek();
    if (next == '*' || next == '+' || next == '?' || next == '{') {
      return cursor_.Error(cursor_.position(), "\"{}\" behind another count is not supported", next);
    }
    return absl::OkStatus();
  }

  Cursor cursor_;
  const bool search_;
  const CharacterWriter characters_;
  AutomatonBuilder* const builder_;
  SequenceStack groups_;
  bool anchored_at_end_ = false;
};

}  // namespace

absl::StatusOr<AutomatonBuilder::Part> ParseRegex(std::string_view source, bool search, CharacterWriter characters,
                                                  AutomatonBuilder* builder) {
  return RegexParser(source, search, characters, builder).Parse();
}

absl::StatusOr<std::shared_ptr<const Automaton>> CompileRegex(std::string_view source) {
  AutomatonBuilder builder;
  const int32_t rule = builder.AddRule("the expression");
  const auto characters = [&](const CodePointSet& set) { return builder.Characters(set); };
  ASSIGN_OR_RETURN(const AutomatonBuilder::Part part, ParseRegex(source, /*search=*/false, characters, &builder));
  builder.Define(rule, part);
  return builder.Build();
}

}  // namespace conclave::engine::grammar
