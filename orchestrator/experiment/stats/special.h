// SPDX-License-Identifier: Apache-2.0
// The distribution functions that the intervals and tests of this folder stand on. Relative error about 1e-13 over the
// ranges used here (compared with scipy in special_test.cc).
#pragma once

#include <cstdint>

namespace conclave::stats {

// Standard normal: Φ(z), and its inverse for p in (0, 1).
double NormalCdf(double z);
double NormalQuantile(double p);

// Binomial probability C(n, k) p^k (1-p)^(n-k) for real k in [0, n], by Loader's saddle-point expansion ("Fast and
// accurate computation of binomial probabilities", 2000), which keeps its precision for large n.
double BinomialPmf(double k, double n, double p);
// P(X <= k) for X ~ Binomial(n, p).
double BinomialCdf(int64_t k, int64_t n, double p);

// Regularised incomplete beta I_x(a, b), a, b > 0, x in [0, 1]: by its power series, or
// Lentz's continued fraction (DLMF 8.17.22) where that converges slowly.
double RegularizedBeta(double a, double b, double x);
// x with I_x(a, b) = p.
double BetaQuantile(double a, double b, double p);

// Student's t with df > 0 degrees of freedom.
double StudentTCdf(double t, double df);
double StudentTQuantile(double p, double df);  // p in (0, 1)
// P(|T| >= |t|), precise in the far tails.
double StudentTTwoSidedP(double t, double df);

// C(n, k), exact while it fits a long double's 64 bits; 0 outside 0 <= k <= n.
long double Choose(int64_t n, int64_t k);

}  // namespace conclave::stats
