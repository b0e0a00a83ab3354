// SPDX-License-Identifier: Apache-2.0
// Checks the arithmetic that a text shows: every "a op b .. = c" is computed exactly, as rationals.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::orchestrator {

// Equations beyond this many are not looked at.
inline constexpr size_t kEquationsMax = 1000;
// Operands of one equation.
inline constexpr size_t kOperandsMax = 64;

struct ArithmeticCheck {
  int32_t equations = 0;
  // One note per wrong one: "3 + 4 = 8: 3 + 4 is 7".
  std::vector<std::string> wrong;
};

// Numbers as people write them ($1,250, 20%, .5, 3/4), operators + - * x × · / ÷ with the usual precedence, no
// brackets. What is not such an equation is skipped: "x = 3", "7 days = 1 week", and an equation whose left side begins
// inside brackets. A result with decimals may be rounded to them, and one marked ≈ is not checked.
ArithmeticCheck CheckArithmetic(std::string_view text);

}  // namespace conclave::orchestrator
