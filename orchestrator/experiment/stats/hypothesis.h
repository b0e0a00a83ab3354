// SPDX-License-Identifier: Apache-2.0
// Hypothesis tests on paired outcomes, corrections for many of them, equivalence and power.
// Formulas: specs/evaluation.md §2. Pure functions; random ones take a seed and repeat exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "orchestrator/experiment/stats/estimate.h"

namespace conclave::stats {

// Two arms, one 0/1 outcome per question each.
struct PairedCounts {
  size_t both = 0;
  size_t a_only = 0;
  size_t b_only = 0;
  size_t neither = 0;
};
// REQUIRES: one length. Non-zero is correct.
PairedCounts CountPairs(std::span<const uint8_t> a, std::span<const uint8_t> b);

// McNemar 1947, conditional on the N discordant pairs, m the smaller count:
// exact = min(1, 2 Σ_{j<=m} C(N,j)/2^N), mid-p = exact - C(N,m)/2^N (Fagerland, Lydersen, Laake 2013). Both are 1 with
// no discordant pair. For one answer per question and no clusters; else use SignFlip.
struct McNemarResult {
  double p_exact = 1;
  double p_mid = 1;
};
McNemarResult McNemar(size_t a_only, size_t b_only);

// Sign-flip permutation test of mean difference 0: the sign of every cluster's sum of differences is a coin toss.
// T = |Σ_c u_c|. At most kSignFlipExactUnits non-zero clusters: all sign patterns, exact. Else `replicates` random
// ones, p = (1 + #{T* >= T}) / (replicates + 1). Sums of 0/1 answers are integers that often meet T exactly, which
// makes p conservative; the mid-p counts those by half, and for clusters of one 0/1 answer is McNemar's.
inline constexpr size_t kSignFlipExactUnits = 20;
struct SignFlipResult {
  double p = 1;
  double p_mid = 1;
  bool exact = true;
};
SignFlipResult SignFlip(std::span<const double> differences, std::span<const uint32_t> clusters, uint64_t seed,
                        size_t replicates = 10'000);

// Adjusted p-values in the order given. Holm 1979 controls the family-wise error rate; Benjamini-Hochberg 1995 the
// false discovery rate (exploratory maps only, and labelled so).
std::vector<double> Holm(std::span<const double> p);
std::vector<double> BenjaminiHochberg(std::span<const double> p);

// Two one-sided t tests (Schuirmann 1987) of a difference against ±margin. Equivalent at level alpha exactly when the
// (1 - 2 alpha) interval lies inside (-margin, margin); non-inferior when its lower end is above -margin.
// nullopt where the estimate has no interval. REQUIRES: margin > 0.
struct EquivalenceResult {
  double p_lower = 1;  // against difference <= -margin
  double p_upper = 1;  // against difference >= +margin
  Interval interval;   // 1 - 2 alpha
  bool equivalent = false;
  bool noninferior = false;
};
std::optional<EquivalenceResult> Equivalence(const Estimate& difference, double margin, double alpha = 0.05);

// Planning, normal approximation. The difference that a two-sided level-alpha test on n questions finds with the given
// power: (z_{1-alpha/2} + z_power) sqrt(variance / n), variance that of one question's difference: w² + s²_a/K_a +
// s²_b/K_b, or the discordance rate q for one sample each.
double MinimumDetectable(double variance, size_t n, double alpha = 0.05, double power = 0.8);
// The same from a standard error that a pilot or a finished run gave.
double MinimumDetectableFromSe(double se, double alpha = 0.05, double power = 0.8);
// Questions needed to find `difference`; REQUIRES: difference != 0.
double QuestionsNeeded(double variance, double difference, double alpha = 0.05, double power = 0.8);
// Questions needed to certify equivalence within the margin when the truth is 0: (z_{1-alpha} + z_power)² variance/m².
double QuestionsForEquivalence(double variance, double margin, double alpha = 0.05, double power = 0.9);
// The power to find `difference` with standard error `se` > 0.
double Power(double difference, double se, double alpha = 0.05);

}  // namespace conclave::stats
