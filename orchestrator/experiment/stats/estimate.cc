// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/estimate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <vector>

#include "common/check.h"
#include "orchestrator/experiment/stats/special.h"

namespace conclave::stats {
namespace {

double Average(std::span<const double> x) {
  double sum = 0;
  for (double v : x) sum += v;
  return sum / static_cast<double>(x.size());
}

// Σ (x - mean)(y - mean_y)
double CrossDeviation(std::span<const double> x, std::span<const double> y) {
  const double mx = Average(x);
  const double my = Average(y);
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (x[i] - mx) * (y[i] - my);
  return sum;
}

// Fills df and the interval from mean and se.
void AddInterval(Estimate& e, double quantile) {
  if (e.se && *e.se > 0) e.ci = Interval{e.mean - quantile * *e.se, e.mean + quantile * *e.se};
}

std::unordered_map<uint32_t, std::vector<double>> ByLabel(std::span<const double> scores,
                                                          std::span<const uint32_t> labels) {
  std::unordered_map<uint32_t, std::vector<double>> groups;
  for (size_t i = 0; i < scores.size(); ++i) groups[labels[i]].push_back(scores[i]);
  return groups;
}

}  // namespace

Estimate Mean(std::span<const double> scores, std::span<const uint32_t> clusters, double confidence) {
  CONCLAVE_CHECK(clusters.empty() || clusters.size() == scores.size());
  Estimate e;
  e.n = scores.size();
  e.clusters = e.n;
  e.mean = scores.empty() ? std::numeric_limits<double>::quiet_NaN() : Average(scores);
  const double n = static_cast<double>(e.n);
  double sum_of_squares = 0;
  if (clusters.empty()) {
    for (double x : scores) sum_of_squares += (x - e.mean) * (x - e.mean);
  } else {
    std::unordered_map<uint32_t, double> sums;
    for (size_t i = 0; i < scores.size(); ++i) sums[clusters[i]] += scores[i] - e.mean;
    e.clusters = sums.size();
    for (const auto& [label, sum] : sums) sum_of_squares += sum * sum;
  }
  if (e.clusters < 2) return e;
  const double g = static_cast<double>(e.clusters);
  e.df = g - 1;
  e.se = std::sqrt(g / (g - 1) * sum_of_squares) / n;
  AddInterval(e, StudentTQuantile(0.5 + confidence / 2, e.df));
  return e;
}

PairedDifference Difference(std::span<const double> a, std::span<const double> b, std::span<const uint32_t> clusters,
                            double confidence) {
  CONCLAVE_CHECK(a.size() == b.size());
  std::vector<double> d(a.size());
  for (size_t i = 0; i < a.size(); ++i) d[i] = a[i] - b[i];
  PairedDifference result;
  result.difference = Mean(d, clusters, confidence);
  if (a.size() < 2) return result;
  const double saa = CrossDeviation(a, a);
  const double sbb = CrossDeviation(b, b);
  if (saa > 0 && sbb > 0) result.correlation = CrossDeviation(a, b) / std::sqrt(saa * sbb);
  const Estimate ea = Mean(a, clusters, confidence);
  const Estimate eb = Mean(b, clusters, confidence);
  if (ea.se && eb.se) result.se_unpaired = std::hypot(*ea.se, *eb.se);
  return result;
}

StratifiedEstimate StratifiedMean(std::span<const double> scores, std::span<const uint32_t> strata, double confidence) {
  CONCLAVE_CHECK(strata.size() == scores.size());
  StratifiedEstimate result;
  const auto groups = ByLabel(scores, strata);
  result.strata = groups.size();
  const double n = static_cast<double>(scores.size());
  const double h = static_cast<double>(groups.size());
  double micro_mean = 0;
  double macro_mean = 0;
  double micro_variance = 0;
  double macro_variance = 0;
  bool formed = !groups.empty();
  for (const auto& [label, group] : groups) {
    const Estimate e = Mean(group);
    const double weight = static_cast<double>(group.size()) / n;
    micro_mean += weight * e.mean;
    macro_mean += e.mean / h;
    if (!e.se) {
      formed = false;
      continue;
    }
    micro_variance += weight * weight * *e.se * *e.se;
    macro_variance += *e.se * *e.se / (h * h);
  }
  const auto finish = [&](Estimate& e, double mean, double variance) {
    e.n = e.clusters = scores.size();
    e.mean = scores.empty() ? std::numeric_limits<double>::quiet_NaN() : mean;
    e.df = std::numeric_limits<double>::infinity();
    if (!formed) return;
    e.se = std::sqrt(variance);
    AddInterval(e, NormalQuantile(0.5 + confidence / 2));
  };
  finish(result.micro, micro_mean, micro_variance);
  finish(result.macro, macro_mean, macro_variance);
  return result;
}

std::optional<double> DesignEffect(std::span<const double> scores, std::span<const uint32_t> clusters) {
  const Estimate plain = Mean(scores);
  const Estimate clustered = Mean(scores, clusters);
  if (!plain.se || !clustered.se || *plain.se == 0) return std::nullopt;
  return (*clustered.se * *clustered.se) / (*plain.se * *plain.se);
}

std::optional<Interval> Wilson(size_t successes, size_t n, double confidence) {
  CONCLAVE_CHECK(successes <= n);
  if (n == 0) return std::nullopt;
  const double z = NormalQuantile(0.5 + confidence / 2);
  const double count = static_cast<double>(n);
  const double p = static_cast<double>(successes) / count;
  const double centre = (p + z * z / (2 * count)) / (1 + z * z / count);
  const double half = z * std::sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count);
  return Interval{successes == 0 ? 0 : centre - half, successes == n ? 1 : centre + half};
}

Estimate Within(Estimate e, double lo, double hi) {
  if (e.ci) e.ci = Interval{std::clamp(e.ci->lo, lo, hi), std::clamp(e.ci->hi, lo, hi)};
  return e;
}

std::optional<Interval> RateInterval(const Estimate& rate, double confidence) {
  if (!rate.se) return std::nullopt;
  const double p = rate.mean;
  const double variance = *rate.se * *rate.se;
  const bool spread = variance > 0 && p > 0 && p < 1;
  const double trials = spread ? p * (1 - p) / variance : static_cast<double>(rate.clusters);
  const double q = spread && std::isfinite(rate.df) ? StudentTQuantile(0.5 + confidence / 2, rate.df)
                                                    : NormalQuantile(0.5 + confidence / 2);
  const double shrink = 1 + q * q / trials;
  const double centre = (p + q * q / (2 * trials)) / shrink;
  const double half = q * std::sqrt(p * (1 - p) / trials + q * q / (4 * trials * trials)) / shrink;
  return Interval{p <= 0 ? 0 : std::max(0.0, centre - half), p >= 1 ? 1 : std::min(1.0, centre + half)};
}

std::optional<double> IntraclassCorrelation(std::span<const double> scores, std::span<const uint32_t> clusters) {
  CONCLAVE_CHECK(scores.size() == clusters.size());
  if (scores.empty()) return std::nullopt;
  const auto groups = ByLabel(scores, clusters);
  const double g = static_cast<double>(groups.size());
  const double n = static_cast<double>(scores.size());
  if (groups.size() < 2 || groups.size() == scores.size()) return std::nullopt;
  const double mean = Average(scores);
  double between = 0;
  double within = 0;
  double squares = 0;
  for (const auto& [label, group] : groups) {
    const double m = static_cast<double>(group.size());
    const double d = Average(group) - mean;
    between += m * d * d;
    within += CrossDeviation(group, group);
    squares += m * m;
  }
  between /= g - 1;
  within /= n - g;
  const double m0 = (n - squares / n) / (g - 1);
  const double total = between + (m0 - 1) * within;
  if (!(total > 0)) return std::nullopt;
  return (between - within) / total;
}

std::optional<Interval> ClopperPearson(size_t successes, size_t n, double confidence) {
  CONCLAVE_CHECK(successes <= n);
  if (n == 0) return std::nullopt;
  const double tail = (1 - confidence) / 2;
  const double x = static_cast<double>(successes);
  const double rest = static_cast<double>(n - successes);
  return Interval{successes == 0 ? 0 : BetaQuantile(x, rest + 1, tail),
                  successes == n ? 1 : BetaQuantile(x + 1, rest, 1 - tail)};
}

std::optional<NoiseSplit> SplitNoise(std::span<const double> a, size_t samples_a, std::span<const double> b,
                                     size_t samples_b) {
  if (samples_a < 2 || samples_b < 2) return std::nullopt;
  CONCLAVE_CHECK(a.size() % samples_a == 0 && b.size() % samples_b == 0);
  const size_t n = a.size() / samples_a;
  CONCLAVE_CHECK(b.size() / samples_b == n);
  if (n < 2) return std::nullopt;
  NoiseSplit split;
  std::vector<double> d(n);
  const auto add = [n](std::span<const double> rows, size_t samples, double sign, std::vector<double>& difference) {
    double within = 0;
    for (size_t i = 0; i < n; ++i) {
      const std::span<const double> row = rows.subspan(i * samples, samples);
      within += CrossDeviation(row, row) / static_cast<double>(samples - 1);
      difference[i] += sign * Average(row);
    }
    return within / static_cast<double>(n);
  };
  split.sampling_a = add(a, samples_a, 1, d);
  split.sampling_b = add(b, samples_b, -1, d);
  const double total = CrossDeviation(d, d) / static_cast<double>(n - 1);
  const double sampling =
      split.sampling_a / static_cast<double>(samples_a) + split.sampling_b / static_cast<double>(samples_b);
  split.between = std::max(0.0, total - sampling);
  return split;
}

}  // namespace conclave::stats
