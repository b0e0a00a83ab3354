// SPDX-License-Identifier: Apache-2.0
// Numbers as people write them, read as exact rationals: 1,250  -$10,000  .5  42.0  2/3  3 1/3  20%  2:10 pm  6th.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::grade {

// A number with more digits than this has no value here (no benchmark asks for one; bounds the arithmetic).
inline constexpr size_t kNumberDigitsMax = 256;

// A number in a text. Bytes [begin, end) include its sign and currency mark, and its per-cent sign.
struct NumberToken {
  size_t begin = 0;
  size_t end = 0;
  bool percent = false;
  // Reduced "n" or "n/d" with d > 1 and no "-0", so that equal values have equal text. nullopt: digits that are not
  // one readable number, as 110,00 (a typing slip, or a decimal comma?) or too long.
  std::optional<std::string> value;
};

// The first number at or after `from`, or nullopt. Digits inside a word (x2, H2O) are not numbers, units that follow
// one (48g, 6th, 67") are not part of it. A minus is a sign unless it stands behind an operand, as in 8-4 or 8 - 4.
std::optional<NumberToken> NextNumber(std::string_view text, size_t from);

// All numbers of the text, in order.
std::vector<NumberToken> AllNumbers(std::string_view text);

// value / 100, in the same normal form. `value` must be a NumberToken's value.
std::string Hundredth(const std::string& value);

}  // namespace conclave::grade
