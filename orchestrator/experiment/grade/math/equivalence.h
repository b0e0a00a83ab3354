// SPDX-License-Identifier: Apache-2.0
// Whether two written answers say the same, by mathematics and not by spelling. Nothing is executed; work is bounded
// by the limits of expression.h and kComparisonsMax, so no clock is needed.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace conclave::grade::math {

inline constexpr int kComparisonsMax = 20'000;   // of parts, in one comparison of two answers
inline constexpr int kApproximateDigitsMin = 6;  // a decimal with fewer significant digits is no value of 1/3

// Whether `answer` says what `gold` says. Not symmetric in one case: where the gold is an inequality an interval may
// answer it, where it is an interval an inequality may not.
// `exactly` is set to false where a decimal was taken for the number it rounds.
bool Equivalent(std::string_view answer, std::string_view gold, bool* exactly = nullptr);

// A normal form: answers with equal ones are equivalent. Rationals are "n/d", other constants their first 30 digits,
// expressions with variables "expression#" and a hash of their values; what is not mathematics is its own text.
// Empty for a text that says nothing.
std::string NormalForm(std::string_view answer);

// The text without what only changes its looks: spaces, \left, $, \text{..}, one final full stop.
std::string LiteralForm(std::string_view text);

// Whether the whole text reads as an answer, so that there is no prose around one to be taken off.
bool ReadsAsAnswer(std::string_view text);

}  // namespace conclave::grade::math
