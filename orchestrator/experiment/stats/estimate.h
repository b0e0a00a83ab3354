// SPDX-License-Identifier: Apache-2.0
// Means, their standard errors and intervals. A score is one number per question (for K samples: the question's mean,
// never its K rows). Formulas: specs/evaluation.md §2; Miller, "Adding error bars to evals" (arXiv 2411.00640).
// Pure functions on spans, safe from any thread. What cannot be formed is nullopt, never 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace conclave::stats {

struct Interval {
  double lo = 0;
  double hi = 0;
};

// Fewer clusters than this make a clustered interval unreliable (Cameron, Gelbach, Miller 2008): say so beside it.
inline constexpr size_t kFewClusters = 10;

struct Estimate {
  size_t n = 0;         // questions
  size_t clusters = 0;  // independent units: n where no clusters were given
  double mean = 0;
  std::optional<double> se;    // nullopt below two independent units
  std::optional<Interval> ci;  // Student's t, clusters - 1 degrees of freedom; nullopt also where se is 0: no spread
                               // was seen, which is not certainty (use Wilson or Clopper-Pearson there)
  double df = 0;               // clusters - 1
};

// Mean of the scores, SE² = Σ (x_i - mean)² / (n (n-1)). With `clusters` (one label per question; empty: every question
// its own), the CR1 clustered SE² = G/(G-1) Σ_c u_c² / n², u_c = Σ_{i in c} (x_i - mean), which for clusters of one is
// exactly the plain SE. An empty span gives mean NaN.
Estimate Mean(std::span<const double> scores, std::span<const uint32_t> clusters = {}, double confidence = 0.95);

// The difference a - b on the same questions, with the correlation of the two and the SE that ignoring the pairing
// would have given. REQUIRES: a and b of one length, in one order of questions.
struct PairedDifference {
  Estimate difference;
  std::optional<double> correlation;  // nullopt when an arm has no spread
  std::optional<double> se_unpaired;
};
PairedDifference Difference(std::span<const double> a, std::span<const double> b,
                            std::span<const uint32_t> clusters = {}, double confidence = 0.95);

// Fixed strata (subjects, tasks), not sampled clusters. Micro: every question counts alike, SE² = Σ (n_h/n)² SE_h².
// Macro: every stratum counts alike, SE² = Σ SE_h² / H². A stratum of one question has no SE, and then neither have
// these. Intervals use the normal quantile.
struct StratifiedEstimate {
  size_t strata = 0;
  Estimate micro;
  Estimate macro;
};
StratifiedEstimate StratifiedMean(std::span<const double> scores, std::span<const uint32_t> strata,
                                  double confidence = 0.95);

// SE²(clustered) / SE²(plain): how many times more questions the clustering costs. nullopt without spread.
std::optional<double> DesignEffect(std::span<const double> scores, std::span<const uint32_t> clusters);

// Intervals of a rate of `successes` in `n` independent trials. nullopt for n = 0. REQUIRES: successes <= n.
// Wilson 1927 (score interval), and Clopper-Pearson 1934 (exact, conservative).
std::optional<Interval> Wilson(size_t successes, size_t n, double confidence = 0.95);
std::optional<Interval> ClopperPearson(size_t successes, size_t n, double confidence = 0.95);

// `e` with its interval cut to [lo, hi], for a mean that cannot lie outside: an accuracy, a difference of two. No truth
// is outside, so that cutting takes no coverage away.
Estimate Within(Estimate e, double lo, double hi);

// Interval of a rate whose estimate is clustered or averages several samples per question: Wilson's score interval with
// as many trials as would give the estimate's standard error, p (1 - p) / SE², and Student's quantile for the normal
// one (Korn and Graubard 1998; Dean and Pagano 2015). Never outside [0, 1]. Where no spread was seen, Wilson's with one
// trial per independent unit, which is what a sample of identical units is worth. nullopt below two units.
// REQUIRES: 0 <= mean <= 1.
std::optional<Interval> RateInterval(const Estimate& rate, double confidence = 0.95);

// How alike questions of one cluster are: the intraclass correlation by analysis of variance, (MSB - MSW) / (MSB +
// (m0 - 1) MSW), m0 = (n - Σ m_c²/n) / (G - 1) (Donner 1986). It may be below 0. nullopt below two clusters, where
// every cluster holds one question, and without spread.
std::optional<double> IntraclassCorrelation(std::span<const double> scores, std::span<const uint32_t> clusters);

// Where the variance of a difference of K-sample means comes from (bias-corrected): sampling noise within questions and
// the spread of true differences between them. Var(mean difference) = (w² + s²_a/K_a + s²_b/K_b) / n.
struct NoiseSplit {
  double sampling_a = 0;  // s²_a = mean_i p_i (1 - p_i) K/(K-1) for 0/1 samples
  double sampling_b = 0;
  double between = 0;  // w², clipped at 0
};
// `a` is [n, samples_a] and `b` [n, samples_b], row-major, samples in 0/1. nullopt unless both have >= 2 samples and
// n >= 2.
std::optional<NoiseSplit> SplitNoise(std::span<const double> a, size_t samples_a, std::span<const double> b,
                                     size_t samples_b);

}  // namespace conclave::stats
