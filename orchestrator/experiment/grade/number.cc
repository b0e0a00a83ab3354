// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/number.h"

#include <gmpxx.h>

#include <algorithm>
#include <array>

namespace conclave::grade {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsAlphaNum(char c) { return IsDigit(c) || IsAlpha(c); }

bool At(std::string_view text, size_t i, std::string_view what) { return text.substr(i).starts_with(what); }

// The number of spaces of any width that group thousands ("9 500"), at i: 0 or the byte length of one.
size_t GroupSpace(std::string_view text, size_t i) {
  for (std::string_view space : {" ", "\u00a0", "\u2009", "\u202f"}) {
    if (At(text, i, space)) return space.size();
  }
  return 0;
}

size_t DigitRun(std::string_view text, size_t i) {
  size_t n = 0;
  while (i + n < text.size() && IsDigit(text[i + n])) ++n;
  return n;
}

// Whether groups of digits were separated as people separate thousands: 1,234,567 or, in India, 12,34,567.
bool WellGrouped(const std::vector<size_t>& groups) {
  if (groups.size() == 1) return true;
  if (groups.front() == 0 || groups.front() > 3 || groups.back() != 3) return false;
  const auto inner = [&](size_t width) {
    return std::all_of(groups.begin() + 1, groups.end() - 1, [&](size_t g) { return g == width; });
  };
  return inner(3) || (inner(2) && groups.front() <= 2);
}

std::string Format(mpq_class value) {
  value.canonicalize();
  return value.get_str();
}

mpz_class Integer(std::string_view digits) {
  mpz_class value;
  value.set_str(std::string(digits), 10);
  return value;
}

mpz_class PowerOfTen(size_t exponent) {
  mpz_class power;
  mpz_ui_pow_ui(power.get_mpz_t(), 10, exponent);
  return power;
}

// What the scanner has read of one number before it is given a value.
struct Reading {
  std::string digits;  // without separators
  std::string decimals;
  std::string denominator;  // of a/b
  std::string numerator;    // of "3 1/3": digits is 3
  std::string minutes;      // of h:mm
  bool well_formed = true;
};

std::optional<std::string> Value(const Reading& r, bool negative) {
  const size_t length =
      r.digits.size() + r.decimals.size() + r.denominator.size() + r.numerator.size() + r.minutes.size();
  if (!r.well_formed || length > kNumberDigitsMax) return std::nullopt;
  // By far the commonest case needs no big numbers.
  std::string_view decimals = r.decimals;
  while (!decimals.empty() && decimals.back() == '0') decimals.remove_suffix(1);
  if (decimals.empty() && r.denominator.empty() && r.minutes.empty()) {
    std::string_view digits = r.digits;
    while (digits.size() > 1 && digits.front() == '0') digits.remove_prefix(1);
    if (digits.empty() || digits == "0") return "0";
    return (negative ? "-" : "") + std::string(digits);
  }
  mpq_class value;
  if (!r.denominator.empty()) {
    const mpz_class denominator = Integer(r.denominator);
    if (denominator == 0) return std::nullopt;
    value = r.numerator.empty() ? mpq_class(Integer(r.digits), denominator)
                                : mpq_class(Integer(r.digits) * denominator + Integer(r.numerator), denominator);
  } else if (!r.minutes.empty()) {
    value = mpq_class(Integer(r.digits) * 60 + Integer(r.minutes), 60);
  } else {
    value = mpq_class(Integer("0" + r.digits + std::string(decimals)), PowerOfTen(decimals.size()));
  }
  return Format(negative ? mpq_class(-value) : value);
}

// Reads the digits of an integer part with its separators from i; returns the position after it.
size_t ReadIntegerPart(std::string_view text, size_t i, Reading& out) {
  std::vector<size_t> groups = {DigitRun(text, i)};
  out.digits = std::string(text.substr(i, groups[0]));
  i += groups[0];
  if (groups[0] == 0) return i;  // .5
  while (i + 1 < text.size() && text[i] == ',' && IsDigit(text[i + 1])) {
    const size_t run = DigitRun(text, i + 1);
    groups.push_back(run);
    out.digits += text.substr(i + 1, run);
    i += 1 + run;
  }
  out.well_formed = WellGrouped(groups);
  return i;
}

// After a currency mark, "9 500" is one number. Without one it may be a list, so it is not.
size_t ReadSpacedGroups(std::string_view text, size_t i, Reading& out) {
  if (out.digits.empty() || out.digits.size() > 3) return i;
  while (true) {
    const size_t space = GroupSpace(text, i);
    if (space == 0 || DigitRun(text, i + space) != 3) return i;
    out.digits += text.substr(i + space, 3);
    i += space + 3;
  }
}

// "/3" right behind an integer makes a fraction, " 1/3" a mixed number; 1/2/2020 and 5/day are neither.
size_t ReadFraction(std::string_view text, size_t i, Reading& out) {
  const auto ends = [&](size_t at) { return at >= text.size() || (text[at] != '/' && !IsAlphaNum(text[at])); };
  if (At(text, i, "/")) {
    const size_t run = DigitRun(text, i + 1);
    if (run == 0 || !ends(i + 1 + run)) return i;
    out.denominator = std::string(text.substr(i + 1, run));
    return i + 1 + run;
  }
  if (!At(text, i, " ")) return i;
  const size_t top = DigitRun(text, i + 1);
  const size_t slash = i + 1 + top;
  if (top == 0 || top > 2 || !At(text, slash, "/")) return i;
  const size_t bottom = DigitRun(text, slash + 1);
  if (bottom == 0 || bottom > 3 || !ends(slash + 1 + bottom)) return i;
  out.numerator = std::string(text.substr(i + 1, top));
  out.denominator = std::string(text.substr(slash + 1, bottom));
  return slash + 1 + bottom;
}

// Decimals, or the ":30" of a time. A point counts only with a digit behind it: "42." and "42..." are 42.
size_t ReadTail(std::string_view text, size_t i, Reading& out) {
  if (At(text, i, ".") && DigitRun(text, i + 1) > 0) {
    const size_t run = DigitRun(text, i + 1);
    out.decimals = std::string(text.substr(i + 1, run));
    return i + 1 + run;
  }
  if (out.digits.empty() || !out.well_formed) return i;
  if (At(text, i, ":") && out.digits.size() <= 2 && DigitRun(text, i + 1) == 2) {
    out.minutes = std::string(text.substr(i + 1, 2));
    return i + 3;
  }
  return ReadFraction(text, i, out);
}

// The byte length of a currency mark that ends right before i, or 0.
size_t CurrencyBefore(std::string_view text, size_t i) {
  for (std::string_view mark : {"\\$", "$", "€", "£", "¥", "₹"}) {
    if (i >= mark.size() && text.substr(i - mark.size(), mark.size()) == mark) return mark.size();
  }
  return 0;
}

// The byte length of a minus that ends right before i, or 0.
size_t MinusBefore(std::string_view text, size_t i) {
  for (std::string_view mark : {"-", "\u2212"}) {
    if (i >= mark.size() && text.substr(i - mark.size(), mark.size()) == mark) return mark.size();
  }
  return 0;
}

// Whether what ends right before i is an operand, so that a minus at i subtracts.
bool OperandBefore(std::string_view text, size_t i) {
  while (i > 0 && text[i - 1] == ' ') --i;
  if (i == 0) return false;
  const char c = text[i - 1];
  return IsDigit(c) || c == ')' || c == '%';
}

}  // namespace

std::optional<NumberToken> NextNumber(std::string_view text, size_t from) {
  for (size_t i = from; i < text.size(); ++i) {
    const bool digit = IsDigit(text[i]);
    const bool point = text[i] == '.' && i + 1 < text.size() && IsDigit(text[i + 1]) && (i == 0 || text[i - 1] != '.');
    if (!digit && !point) continue;
    if (i > 0 && (IsAlpha(text[i - 1]) || text[i - 1] == '_')) {  // x2, H2O
      while (i + 1 < text.size() && IsAlphaNum(text[i + 1])) ++i;
      continue;
    }
    NumberToken token;
    token.begin = i;
    // Sign and currency, in either order: -$5, $-5.
    bool negative = false;
    size_t currency = CurrencyBefore(text, token.begin);
    token.begin -= currency;
    if (size_t minus = MinusBefore(text, token.begin); minus > 0 && token.begin - minus >= from) {
      const size_t at = token.begin - minus;
      const bool letter_before = at > 0 && IsAlpha(text[at - 1]);  // a hyphen: top-5
      if (!letter_before && !OperandBefore(text, at)) {
        negative = true;
        token.begin = at;
        if (currency == 0) token.begin -= CurrencyBefore(text, token.begin);
      }
    }
    Reading reading;
    size_t end = ReadIntegerPart(text, i, reading);
    if (currency > 0) end = ReadSpacedGroups(text, end, reading);
    end = ReadTail(text, end, reading);
    for (std::string_view mark : {"%", "\\%", " %"}) {
      if (At(text, end, mark)) {
        token.percent = true;
        end += mark.size();
        break;
      }
    }
    token.end = end;
    token.begin = std::max(token.begin, std::min(from, i));
    token.value = Value(reading, negative);
    return token;
  }
  return std::nullopt;
}

std::vector<NumberToken> AllNumbers(std::string_view text) {
  std::vector<NumberToken> numbers;
  size_t at = 0;
  while (std::optional<NumberToken> token = NextNumber(text, at)) {
    at = token->end;
    numbers.push_back(*std::move(token));
  }
  return numbers;
}

std::string Hundredth(const std::string& value) { return Format(mpq_class(value) / 100); }

}  // namespace conclave::grade
