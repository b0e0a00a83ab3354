// SPDX-License-Identifier: Apache-2.0
// Internal to engine/grammar: JSON values as parts of an automaton. Texts are written in one way each but for white
// space, which may stand behind "{", "[", "," and ":" and before "}" and "]": none, a space, or a newline and up to
// kIndentMax spaces or tabs. Numbers have up to kDigitsMax digits before and behind the point.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/grammar/automaton.h"

namespace conclave::engine::grammar {

inline constexpr int32_t kIndentMax = 32;
inline constexpr int32_t kDigitsMax = 16;
inline constexpr int64_t kIntegerBoundMax = 999'999'999'999'999;  // magnitude of minimum and maximum

using Part = AutomatonBuilder::Part;

struct IntegerRange {
  std::optional<int64_t> min, max;
};

class JsonParts {
 public:
  explicit JsonParts(AutomatonBuilder* builder) : b_(builder) {}

  Part Space();
  // A character of `set` within a string, as JSON writes it: plain where it may be, else its shortest escape.
  Part Character(const CodePointSet& set);
  Part Quoted(const Part& characters);    // the part last made, between quotes
  Part String(int32_t min, int32_t max);  // of min to max characters; max < 0: any, escapes of all kinds too
  Part Key(std::string_view name);        // "name": with the space behind it
  Part Constant(std::string_view json);   // a compact text, with space where it may be
  Part AnyKey(std::span<const std::string_view> except);
  Part Integer(const IntegerRange& range);
  Part Number(const IntegerRange& range);               // a range: no exponents
  Part Words(std::span<const std::string_view> words);  // one of them as it is

  // Rules that many places share, made at their first use.
  int32_t AnyValueRule();
  int32_t StringRule();

 private:
  Part Sequence(std::span<const Part> parts);
  Part Digits(int32_t min, int32_t max) { return b_->Repeat(b_->Characters({{'0', '9'}}), min, max); }
  Part Whole();     // 0, or digits that do not begin with it
  Part Fraction();  // "." and digits
  Part AnyObject();
  Part AnyArray();
  Part InRange(int64_t low, int64_t high);  // whole numbers without sign
  Part Signed(const IntegerRange& range, bool fraction);

  AutomatonBuilder* const b_;
  int32_t any_value_ = -1, string_ = -1;
};

}  // namespace conclave::engine::grammar
