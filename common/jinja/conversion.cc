// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/conversion.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "common/jinja/format.h"
#include "common/jinja/numbers.h"
#include "common/jinja/unicode.h"
#include "common/status.h"

namespace conclave::jinja {
namespace {

std::string GroupDigits(std::string_view digits, char group, size_t every) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % every == 0) out.push_back(group);
    out.push_back(digits[i]);
  }
  return out;
}

std::string IntegerDigits(uint64_t value, int base, bool upper) {
  std::array<char, 66> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, base);
  std::string digits(buffer.data(), end.ptr);
  return upper ? ToUpper(digits) : digits;
}

// Pads `sign prefix digits` to the width.
std::string PadNumber(const Conversion& conversion, const std::string& sign, const std::string& digits) {
  const size_t length = CodePointCount(sign) + CodePointCount(digits);
  const size_t width = static_cast<size_t>(std::max<int64_t>(conversion.width, 0));
  const size_t missing = width > length ? width - length : 0;
  const char align = conversion.align != 0 ? conversion.align : (conversion.zero ? '=' : '>');
  std::string fill;
  const std::string& unit = conversion.zero && conversion.align == 0 ? std::string("0") : conversion.fill;
  const size_t left = align == '^' ? missing / 2 : align == '<' ? 0 : missing;
  std::string before, after;
  for (size_t i = 0; i < missing; ++i) (i < left ? before : after) += unit;
  return align == '=' ? sign + before + digits + after : before + sign + digits + after;
}

std::string SignOf(bool negative, char policy) {
  if (negative) return "-";
  return policy == '+' ? "+" : policy == ' ' ? " " : "";
}

}  // namespace

absl::Status CheckSizes(const Conversion& conversion) {
  if (conversion.width <= kMaxFormatWidth && conversion.precision <= kMaxFormatPrecision) return absl::OkStatus();
  return InvalidArgument("TEMPLATE_LIMIT: a format of width {} and precision {}, at most {} and {} allowed",
                         conversion.width, conversion.precision, kMaxFormatWidth, kMaxFormatPrecision);
}

std::string FormatInteger(const Conversion& conversion, int64_t value) {
  const bool negative = value < 0;
  const uint64_t magnitude = negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const char type = conversion.type == 0 ? 'd' : conversion.type;
  const int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  std::string digits = IntegerDigits(magnitude, base, type == 'X');
  if (conversion.precision > static_cast<int64_t>(digits.size())) {
    digits.insert(0, static_cast<size_t>(conversion.precision) - digits.size(), '0');
  }
  std::string sign = SignOf(negative, conversion.sign);
  if (conversion.alternate && base != 10) sign += base == 16 ? (type == 'X' ? "0X" : "0x") : base == 8 ? "0o" : "0b";
  if (conversion.group != 0) digits = GroupDigits(digits, conversion.group, base == 10 ? 3 : 4);
  return PadNumber(conversion, sign, digits);
}

std::string FormatFloat(const Conversion& conversion, double value) {
  const bool negative = std::signbit(value) && !std::isnan(value);
  const double magnitude = std::abs(value);
  const int precision = conversion.precision < 0 ? 6 : static_cast<int>(conversion.precision);
  const char type = conversion.type;
  std::string digits;
  if (type == 0 && conversion.precision < 0) {
    digits = FloatRepr(magnitude);
  } else if (type == '%') {
    digits = FormatDouble(magnitude * 100, precision, 'f', conversion.alternate) + "%";
  } else if (type == 0) {
    digits = FormatDouble(magnitude, std::max(precision, 1), 'g', conversion.alternate);
    if (std::isfinite(value) && digits.find_first_of(".e") == std::string::npos) digits += ".0";
  } else {
    const char form = type == 'n' ? 'g' : static_cast<char>(type | 0x20);
    digits = FormatDouble(magnitude, form == 'g' ? std::max(precision, 1) : precision, form, conversion.alternate);
  }
  if (type >= 'A' && type <= 'Z') digits = ToUpper(digits);
  if (conversion.group != 0) {
    const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = GroupDigits(std::string_view(digits).substr(0, whole), conversion.group, 3) + digits.substr(whole);
  }
  return PadNumber(conversion, SignOf(negative, conversion.sign), digits);
}

std::string PadText(const Conversion& conversion, std::string text) {
  if (conversion.precision >= 0) text.resize(ByteOffset(text, static_cast<size_t>(conversion.precision)));
  const size_t length = CodePointCount(text);
  const auto width = static_cast<size_t>(std::max<int64_t>(conversion.width, 0));
  const size_t missing = width > length ? width - length : 0;
  const char align = conversion.align == 0 ? '<' : conversion.align;
  const size_t left = align == '^' ? missing / 2 : align == '<' ? 0 : missing;
  std::string before, after;
  for (size_t i = 0; i < missing; ++i) (i < left ? before : after) += conversion.fill;
  return before + text + after;
}

int64_t ReadNumber(std::string_view text, size_t* at) {
  if (*at >= text.size() || !IsDecimal(static_cast<unsigned char>(text[*at]))) return -1;
  int64_t value = 0;
  for (; *at < text.size() && text[*at] >= '0' && text[*at] <= '9'; ++*at) {
    value = std::min<int64_t>(value * 10 + (text[*at] - '0'), INT32_MAX);
  }
  return value;
}

}  // namespace conclave::jinja
