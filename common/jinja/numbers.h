// SPDX-License-Identifier: Apache-2.0
// Numbers as Python reads, prints and divides them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace conclave::jinja {

// repr(float): the shortest digits that read back as the same number.
std::string FloatRepr(double value);

// int(text, base): surrounding space, sign, underscores between digits; base 0 reads the prefix. Nothing when it is
// not an integer; `overflow` is set when it is one, but not one of 64 bits.
std::optional<int64_t> ParseInt(std::string_view text, int base, bool* overflow);
// float(text), including "inf" and "nan".
std::optional<double> ParseFloat(std::string_view text);

// Python's // and %, which round towards minus infinity. REQUIRES b != 0 and no overflow (b == -1 only for a > min).
int64_t FloorDivide(int64_t a, int64_t b);
int64_t FloorModulo(int64_t a, int64_t b);
double FloorModulo(double a, double b);
double FloorDivide(double a, double b);

// round(value, digits): half to even, exact in the decimal sense.
double RoundTo(double value, int digits);

// The digits of `value` with `precision` places, in the printf form 'f', 'e' or 'g'.
std::string FormatDouble(double value, int precision, char form, bool alternate);

}  // namespace conclave::jinja
