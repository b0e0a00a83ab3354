// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/numeric.h"

#include <array>
#include <utility>

namespace conclave::grade::math {
namespace {

constexpr mpc_rnd_t kRound = MPC_RNDNN;

bool Logarithm(const Complex& x, Domain domain, Complex& out) {
  if (x.IsZero() || (domain == Domain::kReal && x.IsNegativeReal())) return false;
  mpc_log(out.get(), x.get(), kRound);
  return true;
}

bool Exponential(const Complex& x, Complex& out) {
  if (x.Exponent() > 20) return false;
  mpc_exp(out.get(), x.get(), kRound);
  return true;
}

// base^exponent = exp(exponent ln base), and whole powers by multiplication.
bool Power(const Complex& base, const Complex& exponent, const mpq_class* exact, Domain domain, Complex& out) {
  if (exact != nullptr && exact->get_den() == 1 && abs(*exact) < 1 << 20) {
    const auto n = exact->get_num().get_si();
    if (base.IsZero() && n <= 0) return false;
    mpc_pow_si(out.get(), base.get(), n, kRound);
    return true;
  }
  if (base.IsZero()) return exponent.IsReal() && mpfr_sgn(exponent.real()) > 0;  // out is 0
  Complex magnitude = base;
  bool negate = false;
  if (base.IsNegativeReal() && exact != nullptr && mpz_odd_p(exact->get_den_mpz_t()) != 0) {
    mpc_neg(magnitude.get(), base.get(), kRound);
    negate = mpz_odd_p(exact->get_num_mpz_t()) != 0;
  }
  Complex logarithm;
  Complex product;
  if (!Logarithm(magnitude, domain, logarithm)) return false;
  mpc_mul(product.get(), exponent.get(), logarithm.get(), kRound);
  if (!Exponential(product, out)) return false;
  if (negate) mpc_neg(out.get(), out.get(), kRound);
  return true;
}

bool Root(const Complex& radicand, const Complex& degree, const mpq_class* exact, Domain domain, Complex& out) {
  if (exact != nullptr && *exact == 2) {
    if (domain == Domain::kReal && radicand.IsNegativeReal()) return false;
    mpc_sqrt(out.get(), radicand.get(), kRound);
    return true;
  }
  if (degree.IsZero()) return false;
  Complex inverse;
  mpc_ui_div(inverse.get(), 1, degree.get(), kRound);
  if (exact == nullptr) return Power(radicand, inverse, nullptr, domain, out);
  const mpq_class exponent = 1 / *exact;
  return Power(radicand, inverse, &exponent, domain, out);
}

using MpcFunction = int (*)(mpc_t, mpc_srcptr, mpc_rnd_t);

constexpr auto kDirect = std::to_array<std::pair<std::string_view, MpcFunction>>({
    {"sin", &mpc_sin},
    {"cos", &mpc_cos},
    {"tan", &mpc_tan},
    {"sinh", &mpc_sinh},
    {"cosh", &mpc_cosh},
    {"tanh", &mpc_tanh},
    {"arcsin", &mpc_asin},
    {"arccos", &mpc_acos},
    {"arctan", &mpc_atan},
});
constexpr auto kReciprocal = std::to_array<std::pair<std::string_view, MpcFunction>>({
    {"cot", &mpc_tan},
    {"sec", &mpc_cos},
    {"csc", &mpc_sin},
});

// Results that theory says are 0 come out as rounding errors; dividing by one is dividing by 0.
bool IsNothing(const Complex& x) { return x.Exponent() < -320; }

bool Function(std::string_view name, const std::vector<const Complex*>& args, Domain domain, Complex& out) {
  const Complex& x = *args[0];
  if (name == "exp") return Exponential(x, out);
  if (name == "ln" && args.size() == 1) return Logarithm(x, domain, out);
  if (name == "log" || name == "ln") {
    Complex base;
    Complex logarithm;
    mpc_set_ui(base.get(), 10, kRound);
    if (args.size() == 2) base = *args[1];
    if (!Logarithm(x, domain, out) || !Logarithm(base, domain, logarithm) || IsNothing(logarithm)) return false;
    mpc_div(out.get(), out.get(), logarithm.get(), kRound);
    return true;
  }
  if (args.size() != 1 || x.Exponent() > 60) return false;  // reducing a huge angle needs as many bits as it has
  for (const auto& [known, function] : kDirect) {
    if (name != known) continue;
    function(out.get(), x.get(), kRound);
    return true;
  }
  for (const auto& [known, function] : kReciprocal) {
    if (name != known) continue;
    Complex value;
    function(value.get(), x.get(), kRound);
    if (IsNothing(value)) return false;
    mpc_ui_div(out.get(), 1, value.get(), kRound);
    return true;
  }
  return false;
}

bool Rounded(const Complex& x, bool up, Complex& out) {
  if (!x.IsReal()) return false;
  Complex nudged = x;  // a rounding error below a whole number is that number
  mpfr_t whole;
  mpfr_init2(whole, kPrecisionBits);
  mpfr_round(whole, x.real());
  mpc_set_fr(out.get(), whole, kRound);
  mpfr_clear(whole);
  if (NearlyEqual(out, x, x.Exponent())) return true;
  (up ? mpfr_ceil : mpfr_floor)(mpc_realref(out.get()), nudged.real());
  return true;
}

bool Operate(const Node& node, const std::vector<const Complex*>& args, const mpq_class* exact, Domain domain,
             Complex& out) {
  switch (node.kind) {
    case Kind::kAdd:
      for (const Complex* term : args) mpc_add(out.get(), out.get(), term->get(), kRound);
      return true;
    case Kind::kMul:
      mpc_set_ui(out.get(), 1, kRound);
      for (const Complex* factor : args) mpc_mul(out.get(), out.get(), factor->get(), kRound);
      return true;
    case Kind::kNegate:
      mpc_neg(out.get(), args[0]->get(), kRound);
      return true;
    case Kind::kInverse:
      if (IsNothing(*args[0])) return false;
      mpc_ui_div(out.get(), 1, args[0]->get(), kRound);
      return true;
    case Kind::kRatio:
      if (IsNothing(*args[1])) return false;
      mpc_div(out.get(), args[0]->get(), args[1]->get(), kRound);
      return true;
    case Kind::kPower:
      return Power(*args[0], *args[1], exact, domain, out);
    case Kind::kRoot:
      return Root(*args[0], *args[1], exact, domain, out);
    case Kind::kAbs: {
      mpfr_t length;
      mpfr_init2(length, kPrecisionBits);
      mpc_abs(length, args[0]->get(), MPFR_RNDN);
      mpc_set_fr(out.get(), length, kRound);
      mpfr_clear(length);
      return true;
    }
    case Kind::kFloor:
      return Rounded(*args[0], false, out);
    case Kind::kCeiling:
      return Rounded(*args[0], true, out);
    case Kind::kPercent:
      mpc_div_ui(out.get(), args[0]->get(), 100, kRound);
      return true;
    case Kind::kDegree: {
      Complex pi;
      SetPi(pi);
      mpc_mul(out.get(), args[0]->get(), pi.get(), kRound);
      mpc_div_ui(out.get(), out.get(), 180, kRound);
      return true;
    }
    case Kind::kUnit:
      out = *args[0];
      return true;
    case Kind::kFunction:
      return Function(node.name, args, domain, out);
    default:
      return false;
  }
}

}  // namespace

void SetPi(Complex& out) {
  mpc_set_ui(out.get(), 0, kRound);
  mpfr_const_pi(mpc_realref(out.get()), MPFR_RNDN);
}

void SetE(Complex& out) {
  mpc_set_ui(out.get(), 1, kRound);
  mpc_exp(out.get(), out.get(), kRound);
}

void SetI(Complex& out) { mpc_set_si_si(out.get(), 0, 1, kRound); }

bool ApplyNumerically(const Node& node, const std::vector<const Complex*>& args, const mpq_class* exponent,
                      Domain domain, Complex& out) {
  mpc_set_ui(out.get(), 0, kRound);
  return Operate(node, args, exponent, domain, out) && out.InRange();
}

}  // namespace conclave::grade::math
