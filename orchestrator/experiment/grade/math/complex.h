// SPDX-License-Identifier: Apache-2.0
// A complex number of kPrecisionBits, owning its memory; arithmetic is GNU MPC's and MPFR's.
#pragma once

#include <gmp.h>
#include <mpc.h>

#include <string>

namespace conclave::grade::math {

inline constexpr mpfr_prec_t kPrecisionBits = 384;  // 115 decimal digits

class Complex {
 public:
  Complex() { mpc_init2(value_, kPrecisionBits); }
  explicit Complex(const mpq_t value) : Complex() { mpc_set_q(value_, value, MPC_RNDNN); }
  Complex(const Complex& other) : Complex() { mpc_set(value_, other.value_, MPC_RNDNN); }
  Complex& operator=(const Complex& other) {
    if (this != &other) mpc_set(value_, other.value_, MPC_RNDNN);
    return *this;
  }
  ~Complex() { mpc_clear(value_); }

  mpc_ptr get() { return value_; }
  mpc_srcptr get() const { return value_; }
  mpfr_srcptr real() const { return mpc_realref(value_); }
  mpfr_srcptr imaginary() const { return mpc_imagref(value_); }
  bool IsReal() const { return mpfr_zero_p(imaginary()) != 0; }
  bool IsNegativeReal() const { return IsReal() && mpfr_sgn(real()) < 0; }
  bool IsZero() const { return IsReal() && mpfr_zero_p(real()) != 0; }

  // Finite, and neither part beyond 2^kExponentMax.
  bool InRange() const;
  // The binary exponent of the larger part; very small for 0.
  long Exponent() const;  // NOLINT(google-runtime-int): MPFR's own type
  // `digits` significant decimals, parts that are rounding errors left out: "2.5", "3-4*i".
  std::string Text(int digits) const;

  static constexpr long kExponentMax = 1 << 17;  // NOLINT(google-runtime-int)

 private:
  mpc_t value_;
};

// |a - b| within the accuracy of this precision; `scale` is the largest exponent met on the way to them.
bool NearlyEqual(const Complex& a, const Complex& b, long scale);  // NOLINT(google-runtime-int)

}  // namespace conclave::grade::math
