// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/complex.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace conclave::grade::math {
namespace {

constexpr long kZero = -(1L << 40);  // NOLINT(google-runtime-int): below every exponent in use

// NOLINTNEXTLINE(google-runtime-int)
long ExponentOf(mpfr_srcptr x) { return mpfr_regular_p(x) != 0 ? mpfr_get_exp(x) : kZero; }

std::string Decimal(mpfr_srcptr x, int digits) {
  std::array<char, 128> text{};
  mpfr_snprintf(text.data(), text.size(), "%.*Rg", digits, x);
  return text.data();
}

}  // namespace

bool Complex::InRange() const {
  if (mpfr_number_p(real()) == 0 || mpfr_number_p(imaginary()) == 0) return false;
  return Exponent() <= kExponentMax;
}

// NOLINTNEXTLINE(google-runtime-int)
long Complex::Exponent() const { return std::max(ExponentOf(real()), ExponentOf(imaginary())); }

std::string Complex::Text(int digits) const {
  const long exponent = Exponent();  // NOLINT(google-runtime-int)
  const auto small = [&](mpfr_srcptr x) { return ExponentOf(x) < exponent - 200 || ExponentOf(x) < -320; };
  const bool no_real = small(real());
  if (small(imaginary())) return no_real ? "0" : Decimal(real(), digits);
  std::string text = no_real ? "" : Decimal(real(), digits);
  const std::string imaginary_text = Decimal(imaginary(), digits);
  if (!text.empty() && imaginary_text[0] != '-') text += '+';
  return text + imaginary_text + "*i";
}

// NOLINTNEXTLINE(google-runtime-int)
bool NearlyEqual(const Complex& a, const Complex& b, long scale) {
  Complex difference;
  mpc_sub(difference.get(), a.get(), b.get(), MPC_RNDNN);
  const long d = difference.Exponent();  // NOLINT(google-runtime-int)
  if (difference.IsZero()) return true;
  // 184 bits are kept for cancellation on the way; a difference of nothing is judged by what it was made of.
  return d < std::max(a.Exponent(), b.Exponent()) - 200 || d < std::min(scale, 100L) - 320;
}

}  // namespace conclave::grade::math
