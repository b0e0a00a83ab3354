// SPDX-License-Identifier: Apache-2.0
// The bootstrap over questions or clusters (Efron 1979), with counter-based random numbers: replicate r of a seed is
// the same whatever else is computed, so every arm and every statistic of an experiment sees the same resamples, and so
// is paired. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "orchestrator/experiment/stats/estimate.h"

namespace conclave::stats {

class DrawCache;

struct BootstrapOptions {
  uint64_t seed = 0;
  size_t replicates = 10'000;
  double confidence = 0.95;
  DrawCache* draws = nullptr;  // outlives the call; the same results without it
};

struct BootstrapResult {
  double estimate = 0;                 // on the data itself
  std::optional<double> se;            // standard deviation of the replicates
  std::optional<Interval> percentile;  // quantiles of the replicates, linear between order statistics
  size_t defined = 0;                  // replicates on which the statistic was no NaN
  std::optional<Interval> bca;         // bias-corrected and accelerated (Efron 1987)
};

// A statistic of resampled units: counts[u] says how often unit u was drawn (all ones: the data itself). Anything
// paired over units can be written so: differences, ratios, curves read at a point. It may return NaN for "undefined on
// this resample"; such replicates are left out.
using ResampledStatistic = std::function<double(std::span<const uint32_t> counts)>;

// Draws of `units` out of `units` with replacement for one replicate, as counts.
void ResampleCounts(uint64_t seed, uint64_t replicate, std::span<uint32_t> counts);

// Draws that were made once are kept for the next bootstrap over as many units, up to a bound of memory. Not
// thread-safe.
class DrawCache {
 public:
  // As ResampleCounts.
  void Counts(uint64_t seed, uint64_t replicate, std::span<uint32_t> counts);

 private:
  std::map<std::pair<uint64_t, size_t>, std::vector<uint16_t>> kept_;  // by seed and units: replicates in order
  size_t bytes_ = 0;
};

// BCa takes one jackknife pass: `units` more calls. Intervals are nullopt below two units or when all replicates agree.
BootstrapResult Bootstrap(size_t units, const ResampledStatistic& statistic, const BootstrapOptions& options = {});

// A statistic that depends on its units only through sums of `columns` figures of each: rates, ratios, differences,
// curves. `rows` is [units, columns], row-major; one draw costs units x columns additions, and so does the whole
// jackknife. Draws as Bootstrap's with the same seed.
using SumsStatistic = std::function<double(std::span<const double> sums)>;
BootstrapResult BootstrapSums(std::span<const double> rows, size_t columns, const SumsStatistic& statistic,
                              const BootstrapOptions& options = {});
// Several statistics of the same sums, on the same draws.
std::vector<BootstrapResult> BootstrapSums(std::span<const double> rows, size_t columns,
                                           std::span<const SumsStatistic> statistics, const BootstrapOptions& options);

// The mean of `scores` (for paired arms: of their differences), whole clusters resampled together. A resample's mean is
// Σ / (number of questions drawn).
BootstrapResult BootstrapMean(std::span<const double> scores, std::span<const uint32_t> clusters = {},
                              const BootstrapOptions& options = {});

// The difference of two arms with K samples each, resampling questions and then, within each drawn question, samples.
// `a` is [n, samples_a], `b` [n, samples_b], row-major. No BCa.
BootstrapResult BootstrapSampledDifference(std::span<const double> a, size_t samples_a, std::span<const double> b,
                                           size_t samples_b, const BootstrapOptions& options = {});

// Quantile of sorted values, linear between order statistics (Hyndman and Fan 1996, type 7; numpy's default).
double SortedQuantile(std::span<const double> sorted, double p);

}  // namespace conclave::stats
