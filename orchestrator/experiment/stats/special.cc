// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/special.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace conclave::stats {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kLogSqrt2Pi = 0.91893853320467274178;

// log Γ(x), x > 0. std::lgamma writes the global signgam, which threads would race for.
double LogGamma(double x) {
  int sign = 0;
  return lgamma_r(x, &sign);
}

// log(n!) - log(sqrt(2 pi n) (n/e)^n).
double StirlingError(double n) {
  if (n < 16) return LogGamma(n + 1) - (n + 0.5) * std::log(n) + n - kLogSqrt2Pi;
  const double n2 = n * n;
  return (1.0 / 12 - (1.0 / 360 - (1.0 / 1260 - (1.0 / 1680 - 1.0 / 1188 / n2) / n2) / n2) / n2) / n;
}

// x log(x / m) + m - x without cancellation near x = m.
double Deviance(double x, double m) {
  if (std::fabs(x - m) < 0.1 * (x + m)) {
    const double v = (x - m) / (x + m);
    double sum = (x - m) * v;
    double term = 2 * x * v;
    for (int j = 1; j < 1000; ++j) {
      term *= v * v;
      const double next = sum + term / (2 * j + 1);
      if (next == sum) return next;
      sum = next;
    }
    return sum;
  }
  return x * std::log(x / m) + m - x;
}

// C(n, k) p^k q^(n-k), q = 1 - p given apart so that neither loses digits.
double BinomialRaw(double k, double n, double p, double q) {
  if (p == 0) return k == 0 ? 1 : 0;
  if (q == 0) return k == n ? 1 : 0;
  if (k == 0) return std::exp(p < 0.1 ? n * std::log1p(-p) : n * std::log(q));
  if (k == n) return std::exp(q < 0.1 ? n * std::log1p(-q) : n * std::log(p));
  const double log_core =
      StirlingError(n) - StirlingError(k) - StirlingError(n - k) - Deviance(k, n * p) - Deviance(n - k, n * q);
  return std::exp(log_core) * std::sqrt(n / (2 * kPi * k * (n - k)));
}

// The continued fraction of I_x(a, b), modified Lentz; converges fast for x < (a + 1) / (a + b + 2).
double BetaFraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  double c = 1;
  double d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::fabs(d) < kTiny ? kTiny : d);
  double h = d;
  for (int m = 1; m < 100'000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 + even * d;
    c = 1 + even / c;
    d = 1 / (std::fabs(d) < kTiny ? kTiny : d);
    c = std::fabs(c) < kTiny ? kTiny : c;
    h *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 + odd * d;
    c = 1 + odd / c;
    d = 1 / (std::fabs(d) < kTiny ? kTiny : d);
    c = std::fabs(c) < kTiny ? kTiny : c;
    const double delta = d * c;
    h *= delta;
    if (std::fabs(delta - 1) < 1e-16) break;
  }
  return h;
}

// I_x(a, b) / (x^a y^b / (a B(a, b))): all terms positive, so no cancellation (DLMF 8.17.7 after 15.8.1). Fast where x
// is not near 1.
double BetaSeries(double a, double b, double x) {
  double term = 1;
  double sum = 1;
  for (int n = 0; n < 10'000'000; ++n) {
    term *= (a + b + n) / (a + 1 + n) * x;
    const double next = sum + term;
    if (next == sum) break;
    sum = next;
  }
  return sum;
}

// x^a y^b / (a B(a, b))
double BetaFront(double a, double b, double x, double y) { return b / (a + b) * BinomialRaw(a, a + b, x, y); }

// I_x(a, b) for x below the mean or thereabouts, with y = 1 - x.
double LowerBeta(double a, double b, double x, double y) {
  if (x <= 0.9) return BetaFront(a, b, x, y) * BetaSeries(a, b, x);
  // Near 1 and yet below the mean: b is small beside a. Not far in the tail, the other side's series is the exact one.
  if (a * y < 4) return 1 - BetaFront(b, a, y, x) * BetaSeries(b, a, y);
  return BetaFront(a, b, x, y) * BetaFraction(a, b, x);
}

// I_x(a, b) with y = 1 - x given apart: near either end, one of them carries the digits.
double Beta(double a, double b, double x, double y) {
  if (x <= 0) return 0;
  if (y <= 0) return 1;
  return x < (a + 1) / (a + b + 2) ? LowerBeta(a, b, x, y) : 1 - LowerBeta(b, a, y, x);
}

// The root of an increasing function on (lo, hi) by Newton's steps kept inside a shrinking bracket.
template <typename F, typename Slope>
double Solve(double lo, double hi, double start, F f, Slope slope) {
  double x = start;
  for (int i = 0; i < 200; ++i) {
    const double y = f(x);
    if (y == 0) return x;
    (y < 0 ? lo : hi) = x;
    const double s = slope(x);
    double next = s > 0 ? x - y / s : lo;
    if (!(next > lo && next < hi)) next = lo + (hi - lo) / 2;
    if (std::fabs(next - x) <= 1e-16 * std::fabs(next) || next == lo || next == hi) return next;
    x = next;
  }
  return x;
}

}  // namespace

double NormalCdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

double NormalQuantile(double p) {
  CONCLAVE_CHECK(p > 0 && p < 1);
  if (p > 0.5) return -NormalQuantile(1 - p);
  if (p == 0.5) return 0;
  // A start from the tail's asymptote, then Newton on log Φ, which is concave and so converges from there.
  double z = -std::sqrt(std::max(0.0, -2 * std::log(p) - std::log(2 * kPi * std::max(1.0, -2 * std::log(p)))));
  for (int i = 0; i < 100; ++i) {
    const double cdf = NormalCdf(z);
    const double pdf = std::exp(-0.5 * z * z - kLogSqrt2Pi);
    const double step = (std::log(cdf) - std::log(p)) * cdf / pdf;
    z -= step;
    if (std::fabs(step) <= 1e-16 * (1 + std::fabs(z))) break;
  }
  return z;
}

double BinomialPmf(double k, double n, double p) {
  CONCLAVE_CHECK(k >= 0 && k <= n && p >= 0 && p <= 1);
  if (n == 0) return 1;
  return BinomialRaw(k, n, p, 1 - p);
}

double BinomialCdf(int64_t k, int64_t n, double p) {
  if (k < 0) return 0;
  if (k >= n) return 1;
  return Beta(static_cast<double>(n - k), static_cast<double>(k + 1), 1 - p, p);
}

double RegularizedBeta(double a, double b, double x) {
  CONCLAVE_CHECK(a > 0 && b > 0 && x >= 0 && x <= 1);
  return Beta(a, b, x, 1 - x);
}

double BetaQuantile(double a, double b, double p) {
  CONCLAVE_CHECK(a > 0 && b > 0 && p >= 0 && p <= 1);
  if (p == 0) return 0;
  if (p == 1) return 1;
  const double log_scale = LogGamma(a + b) - LogGamma(a) - LogGamma(b);
  const auto pdf = [&](double x) { return std::exp(log_scale + (a - 1) * std::log(x) + (b - 1) * std::log1p(-x)); };
  return Solve(
      0, 1, a / (a + b), [&](double x) { return RegularizedBeta(a, b, x) - p; }, pdf);
}

double StudentTTwoSidedP(double t, double df) {
  CONCLAVE_CHECK(df > 0);
  const double t2 = t * t;
  return Beta(df / 2, 0.5, df / (df + t2), t2 / (df + t2));
}

double StudentTCdf(double t, double df) {
  const double tail = 0.5 * StudentTTwoSidedP(t, df);
  return t > 0 ? 1 - tail : tail;
}

double StudentTQuantile(double p, double df) {
  CONCLAVE_CHECK(p > 0 && p < 1 && df > 0);
  if (p == 0.5) return 0;
  if (p < 0.5) return -StudentTQuantile(1 - p, df);
  // Solve for the upper tail, whose digits do not drown beside 1.
  const double tail = 1 - p;
  const double log_scale = LogGamma((df + 1) / 2) - LogGamma(df / 2) - 0.5 * std::log(df * kPi);
  const auto pdf = [&](double t) { return std::exp(log_scale - (df + 1) / 2 * std::log1p(t * t / df)); };
  double hi = 2;
  while (0.5 * StudentTTwoSidedP(hi, df) > tail && hi < 1e300) hi *= 2;
  return Solve(
      0, hi, std::min(NormalQuantile(p), hi / 2), [&](double t) { return tail - 0.5 * StudentTTwoSidedP(t, df); }, pdf);
}

long double Choose(int64_t n, int64_t k) {
  if (k < 0 || k > n) return 0;
  k = std::min(k, n - k);
  long double c = 1;
  for (int64_t j = 1; j <= k; ++j) c = c * static_cast<long double>(n - k + j) / static_cast<long double>(j);
  return c;
}

}  // namespace conclave::stats
