// SPDX-License-Identifier: Apache-2.0
// What regular expressions and grammars have in common: escapes, classes in brackets, counts in braces, read from UTF-8
// with the position for errors.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/status.h"
#include "engine/grammar/code_points.h"

namespace conclave::engine::grammar {

inline constexpr int32_t kRepeatMax = 10'000;  // of a count in braces
inline constexpr size_t kNestingMax = 128;     // of groups in a source

CodePointSet AsciiDigits();
CodePointSet AsciiWordCharacters();
CodePointSet AsciiSpaces();

// A text and a place in it. Errors are INVALID_ARGUMENT "at byte N: ..", N from 0.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  bool done() const { return at_ >= text_.size(); }
  size_t position() const { return at_; }
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool StartsWith(std::string_view prefix) const { return text_.substr(at_).starts_with(prefix); }
  bool Take(std::string_view prefix) {
    const bool there = StartsWith(prefix);
    if (there) at_ += prefix.size();
    return there;
  }
  void Skip(size_t bytes) { at_ += bytes; }
  std::string_view From(size_t begin) const { return text_.substr(begin, at_ - begin); }

  template <typename... Args>
  absl::Status Error(size_t position, fmt::format_string<Args...> format, Args&&... args) const {
    return InvalidArgument("at byte {}: {}", position, fmt::format(format, std::forward<Args>(args)...));
  }

  // One character of UTF-8.
  absl::StatusOr<char32_t> Character();
  // What follows a backslash (already taken): a character or a class of them (\d \w \s and their complements).
  absl::StatusOr<CodePointSet> Escape();
  // What follows "[" up to and with "]".
  absl::StatusOr<CodePointSet> Class();
  struct Count {
    int32_t min, max;  // max < 0: no end
  };
  // "*", "+", "?", "{n}", "{n,}", "{n,m}", or {1, 1} and nothing taken.
  absl::StatusOr<Count> Quantifier();

 private:
  absl::StatusOr<int32_t> Number();
  absl::StatusOr<char32_t> Hex(int digits_min, int digits_max);

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace conclave::engine::grammar
