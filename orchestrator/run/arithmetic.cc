// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/arithmetic.h"

#include <fmt/format.h>
#include <gmpxx.h>

#include <optional>

#include "orchestrator/experiment/grade/number.h"

namespace conclave::orchestrator {
namespace {

using grade::NumberToken;

// A number whose value this page can compute with: nullopt for unreadable digits.
std::optional<mpq_class> ValueOf(const NumberToken& number) {
  if (!number.value.has_value()) return std::nullopt;
  mpq_class value(*number.value);  // reduced "n" or "n/d", d > 1
  if (number.percent) value /= 100;
  return value;
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// '+', '-', '*', '/', '=', or 0 for anything else between two numbers.
char OperatorIn(std::string_view between) {
  const std::string_view word = Trimmed(between);
  if (word == "+" || word == "-" || word == "*" || word == "/" || word == "=") return word[0];
  if (word == "\u2212" || word == "\u2013") return '-';  // minus sign, en dash
  if (word == "x" || word == "X" || word == "\u00d7" || word == "\u00b7" || word == "\\times" || word == "\\cdot") {
    return '*';
  }
  if (word == "\u00f7" || word == "\\div") return '/';
  return 0;
}

// Whether the number at `begin` is the first thing of its expression: nothing before it could bind to it.
bool BeginsExpression(std::string_view text, size_t begin) {
  while (begin > 0 && text[begin - 1] == ' ') --begin;
  if (begin == 0) return true;
  constexpr std::string_view kBinding = "+-*/^()[]{}\\xX\xb7\x97\xb2";  // the last bytes of · × ÷ − too
  return kBinding.find(text[begin - 1]) == std::string_view::npos;
}

// Whether something behind the number goes on computing with it.
bool Continues(std::string_view text, size_t end) {
  while (end < text.size() && text[end] == ' ') ++end;
  return end < text.size() && std::string_view("+-*/^(\\\xc3\xc2\xe2").find(text[end]) != std::string_view::npos;
}

// Left to right, products before sums; nullopt for a division by zero.
std::optional<mpq_class> Evaluate(const std::vector<mpq_class>& operands, const std::string& operators) {
  mpq_class sum = 0;
  mpq_class term = operands[0];
  for (size_t i = 0; i < operators.size(); ++i) {
    const mpq_class& next = operands[i + 1];
    switch (operators[i]) {
      case '*':
        term *= next;
        break;
      case '/':
        if (next == 0) return std::nullopt;
        term /= next;
        break;
      default:
        sum += term;
        term = operators[i] == '-' ? mpq_class(-next) : next;
    }
  }
  sum += term;
  return sum;
}

// Equal, or equal once rounded to the decimals that `written` shows.
bool Agrees(const mpq_class& exact, const mpq_class& stated, const NumberToken& number, std::string_view written) {
  if (exact == stated) return true;
  const size_t point = written.rfind('.');
  if (point == std::string_view::npos || written.find('/') != std::string_view::npos) return false;
  size_t decimals = 0;
  while (point + 1 + decimals < written.size() && written[point + 1 + decimals] >= '0' &&
         written[point + 1 + decimals] <= '9') {
    ++decimals;
  }
  mpz_class power;
  mpz_ui_pow_ui(power.get_mpz_t(), 10, decimals + (number.percent ? 2 : 0));
  return abs(exact - stated) * 2 * power <= 1;
}

// As people write it: with decimals where they end, else as a fraction.
std::string Shown(const mpq_class& value) {
  mpz_class denominator = value.get_den();
  size_t decimals = 0;
  mpz_class power = 1;
  while (power % denominator != 0 && decimals < 12) power *= 10, ++decimals;
  if (power % denominator != 0 || decimals == 0) return value.get_str();
  const mpz_class scaled = abs(value.get_num()) * (power / denominator);
  std::string digits = scaled.get_str();
  if (digits.size() <= decimals) digits.insert(0, decimals + 1 - digits.size(), '0');
  digits.insert(digits.size() - decimals, ".");
  return (value < 0 ? "-" : "") + digits;
}

}  // namespace

ArithmeticCheck CheckArithmetic(std::string_view text) {
  ArithmeticCheck check;
  const std::vector<NumberToken> numbers = grade::AllNumbers(text);
  const auto between = [&](size_t i) { return text.substr(numbers[i].end, numbers[i + 1].begin - numbers[i].end); };
  for (size_t i = 0; i + 1 < numbers.size() && check.equations < static_cast<int32_t>(kEquationsMax); ++i) {
    if (!BeginsExpression(text, numbers[i].begin)) continue;
    std::vector<mpq_class> operands;
    std::string operators;
    size_t at = i;
    bool readable = true;
    while (true) {
      const std::optional<mpq_class> value = ValueOf(numbers[at]);
      readable = readable && value.has_value();
      if (!readable || operands.size() == kOperandsMax || at + 1 == numbers.size()) {
        readable = false;
        break;
      }
      operands.push_back(*value);
      const char op = OperatorIn(between(at));
      ++at;
      if (op == '=') break;
      if (op == 0) readable = false;
      if (!readable) break;
      operators.push_back(op);
    }
    if (!readable) continue;
    const std::string_view left = text.substr(numbers[i].begin, numbers[at - 1].end - numbers[i].begin);
    if (operators.empty() && left.find('/') == std::string_view::npos) continue;  // 3 = 3 computes nothing
    const std::optional<mpq_class> stated = ValueOf(numbers[at]);
    const std::optional<mpq_class> exact = Evaluate(operands, operators);
    if (!stated.has_value() || !exact.has_value() || Continues(text, numbers[at].end)) continue;
    check.equations += 1;
    const std::string_view right = text.substr(numbers[at].begin, numbers[at].end - numbers[at].begin);
    if (!Agrees(*exact, *stated, numbers[at], right)) {
      check.wrong.push_back(fmt::format("{} = {}: {} is {}", left, right, left, Shown(*exact)));
    }
    i = at - 1;  // a chain a + b = c + d = e goes on with c
  }
  return check;
}

}  // namespace conclave::orchestrator
