// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/exact.h"

namespace conclave::grade::math {
namespace {

using Value = std::optional<mpq_class>;

constexpr unsigned kFactorialMax = 8000;  // 8000! has 91,000 bits
constexpr unsigned kBinomialMax = 256;

// The exponent as a machine integer, where it is one of modest size.
std::optional<int> Small(const mpq_class& value, int max) {
  if (value.get_den() != 1 || abs(value) > max) return std::nullopt;
  return static_cast<int>(value.get_num().get_si());
}

Value WholePower(const mpq_class& base, int exponent) {
  if (base == 0) return exponent > 0 ? Value(0) : std::nullopt;  // 0^0 is not for a grader to decide
  const unsigned n = static_cast<unsigned>(exponent < 0 ? -exponent : exponent);
  if (Bits(base) * n > kExactBitsMax) return std::nullopt;
  mpz_class top;
  mpz_class bottom;
  mpz_pow_ui(top.get_mpz_t(), base.get_num_mpz_t(), n);
  mpz_pow_ui(bottom.get_mpz_t(), base.get_den_mpz_t(), n);
  mpq_class result(top, bottom);
  if (exponent < 0) result = 1 / result;
  return result;
}

// The real root of that degree, where it is rational.
Value WholeRoot(const mpq_class& radicand, int degree) {
  if (degree < 1 || degree > 64 || (radicand < 0 && degree % 2 == 0)) return std::nullopt;
  mpz_class top;
  mpz_class bottom;
  const auto n = static_cast<unsigned>(degree);
  if (mpz_root(top.get_mpz_t(), radicand.get_num_mpz_t(), n) == 0) return std::nullopt;
  if (mpz_root(bottom.get_mpz_t(), radicand.get_den_mpz_t(), n) == 0) return std::nullopt;
  return mpq_class(top, bottom);
}

Value Power(const mpq_class& base, const mpq_class& exponent) {
  if (const auto whole = Small(exponent, static_cast<int>(kExactBitsMax))) {
    if (*whole == 0 && base != 0) return mpq_class(1);
    return WholePower(base, *whole);
  }
  const auto degree = Small(mpq_class(exponent.get_den()), 64);
  const auto times = Small(mpq_class(exponent.get_num()), 4096);
  if (!degree || !times) return std::nullopt;
  const Value root = WholeRoot(base, *degree);
  return root ? WholePower(*root, *times) : std::nullopt;
}

Value Factorial(const mpq_class& n) {
  const auto whole = Small(n, kFactorialMax);
  if (!whole || *whole < 0) return std::nullopt;
  mpz_class result;
  mpz_fac_ui(result.get_mpz_t(), static_cast<unsigned>(*whole));
  return mpq_class(result);
}

// n (n-1) .. (n-k+1) / k! for whole k, whatever n is.
Value Binomial(const mpq_class& n, const mpq_class& k) {
  const auto whole = Small(k, kBinomialMax);
  if (!whole || *whole < 0 || Bits(n) > 64) return std::nullopt;
  mpq_class result = 1;
  for (int i = 0; i < *whole; ++i) result *= (n - i) / (i + 1);
  return result;
}

mpq_class Rounded(const mpq_class& value, bool up) {
  mpz_class whole;
  (up ? mpz_cdiv_q : mpz_fdiv_q)(whole.get_mpz_t(), value.get_num_mpz_t(), value.get_den_mpz_t());
  return whole;
}

Value Operate(Kind kind, const std::vector<const mpq_class*>& args) {
  mpq_class result = kind == Kind::kMul ? 1 : 0;
  switch (kind) {
    case Kind::kAdd:
      for (const mpq_class* term : args) {
        if (Bits(result) + Bits(*term) > kExactBitsMax) return std::nullopt;
        result += *term;
      }
      return result;
    case Kind::kMul:
      for (const mpq_class* factor : args) {
        if (Bits(result) + Bits(*factor) > kExactBitsMax) return std::nullopt;
        result *= *factor;
      }
      return result;
    case Kind::kNegate:
      return mpq_class(-*args[0]);
    case Kind::kInverse:
      return *args[0] == 0 ? std::nullopt : Value(1 / *args[0]);
    case Kind::kRatio:
      return *args[1] == 0 ? std::nullopt : Value(*args[0] / *args[1]);
    case Kind::kPower:
      return Power(*args[0], *args[1]);
    case Kind::kRoot: {
      const auto degree = Small(*args[1], 64);
      return degree ? WholeRoot(*args[0], *degree) : std::nullopt;
    }
    case Kind::kFactorial:
      return Factorial(*args[0]);
    case Kind::kBinomial:
      return Binomial(*args[0], *args[1]);
    case Kind::kAbs:
      return mpq_class(abs(*args[0]));
    case Kind::kFloor:
      return Rounded(*args[0], false);
    case Kind::kCeiling:
      return Rounded(*args[0], true);
    case Kind::kPercent:
      return mpq_class(*args[0] / 100);
    case Kind::kUnit:
      return *args[0];
    default:
      return std::nullopt;
  }
}

}  // namespace

size_t Bits(const mpq_class& value) {
  return mpz_sizeinbase(value.get_num_mpz_t(), 2) + mpz_sizeinbase(value.get_den_mpz_t(), 2);
}

Value ApplyExactly(Kind kind, const std::vector<const mpq_class*>& args) {
  Value result = Operate(kind, args);
  if (result && Bits(*result) > kExactBitsMax) return std::nullopt;
  return result;
}

}  // namespace conclave::grade::math
