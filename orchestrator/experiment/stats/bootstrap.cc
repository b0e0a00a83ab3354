// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/bootstrap.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "common/check.h"
#include "common/hash.h"
#include "orchestrator/experiment/stats/special.h"

namespace conclave::stats {
namespace {

// Random indices below n: the high half of 32 random bits times n (Lemire 2019, without rejection: the bias is below
// n / 2^32).
class IndexStream {
 public:
  IndexStream(uint64_t seed, uint64_t replicate)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        counter_{0, static_cast<uint32_t>(replicate), static_cast<uint32_t>(replicate >> 32), 2} {}

  size_t Below(size_t n) {
    if (used_ == 4) {
      bits_ = Philox4x32(key_, counter_);
      ++counter_[0];
      used_ = 0;
    }
    return static_cast<size_t>((uint64_t{bits_[used_++]} * n) >> 32);
  }

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> bits_{};
  size_t used_ = 4;
};

double StandardDeviation(std::span<const double> x) {
  double mean = 0;
  for (double v : x) mean += v / static_cast<double>(x.size());
  double sum = 0;
  for (double v : x) sum += (v - mean) * (v - mean);
  return std::sqrt(sum / static_cast<double>(x.size() - 1));
}

// Several replicates go through the rows together: each row is read once for all of them.
constexpr size_t kDrawsTogether = 8;

constexpr size_t kKeptDrawBytesMax = size_t{1} << 28;

// The sums of `draws` replicates from `first` on, [draws, columns].
void SumDraws(std::span<const double> rows, size_t columns, const BootstrapOptions& options, size_t first, size_t draws,
              std::vector<double>* sums) {
  const size_t units = rows.size() / columns;
  std::vector<uint32_t> counts(units * draws);
  for (size_t d = 0; d < draws; ++d) {
    const auto of_draw = std::span<uint32_t>(counts).subspan(d * units, units);
    if (options.draws != nullptr) {
      options.draws->Counts(options.seed, first + d, of_draw);
    } else {
      ResampleCounts(options.seed, first + d, of_draw);
    }
  }
  sums->assign(draws * columns, 0);
  for (size_t u = 0; u < units; ++u) {
    const double* row = rows.data() + u * columns;
    for (size_t d = 0; d < draws; ++d) {
      const double times = counts[d * units + u];
      double* out = sums->data() + d * columns;
      for (size_t c = 0; c < columns; ++c) out[c] += times * row[c];
    }
  }
}

// Sorts the replicates and reads SE and percentile interval off them.
void Summarise(std::vector<double>& replicates, double confidence, BootstrapResult& result) {
  std::erase_if(replicates, [](double v) { return std::isnan(v); });
  result.defined = replicates.size();
  if (replicates.size() < 2) return;
  std::sort(replicates.begin(), replicates.end());
  if (replicates.front() == replicates.back()) return;
  result.se = StandardDeviation(replicates);
  const double tail = (1 - confidence) / 2;
  result.percentile = Interval{SortedQuantile(replicates, tail), SortedQuantile(replicates, 1 - tail)};
}

// Efron 1987: z0 from the share of replicates below the estimate, acceleration from the jackknife.
std::optional<Interval> BcaInterval(std::span<const double> sorted, double estimate, std::span<const double> jackknife,
                                    double confidence) {
  const auto below = std::lower_bound(sorted.begin(), sorted.end(), estimate) - sorted.begin();
  const auto ties = std::upper_bound(sorted.begin(), sorted.end(), estimate) - sorted.begin() - below;
  const double share =
      (static_cast<double>(below) + static_cast<double>(ties) / 2) / static_cast<double>(sorted.size());
  if (share <= 0 || share >= 1) return std::nullopt;
  double mean = 0;
  for (double v : jackknife) mean += v / static_cast<double>(jackknife.size());
  double squares = 0;
  double cubes = 0;
  for (double v : jackknife) {
    const double d = mean - v;
    squares += d * d;
    cubes += d * d * d;
  }
  if (!(squares > 0)) return std::nullopt;
  const double acceleration = cubes / (6 * std::pow(squares, 1.5));
  const double z0 = NormalQuantile(share);
  const auto level = [&](double p) {
    const double z = z0 + NormalQuantile(p);
    return NormalCdf(z0 + z / (1 - acceleration * z));
  };
  const double tail = (1 - confidence) / 2;
  return Interval{SortedQuantile(sorted, level(tail)), SortedQuantile(sorted, level(1 - tail))};
}

}  // namespace

double SortedQuantile(std::span<const double> sorted, double p) {
  CONCLAVE_CHECK(!sorted.empty() && p >= 0 && p <= 1);
  const double at = p * static_cast<double>(sorted.size() - 1);
  const size_t low = std::min(static_cast<size_t>(at), sorted.size() - 1);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

void ResampleCounts(uint64_t seed, uint64_t replicate, std::span<uint32_t> counts) {
  std::fill(counts.begin(), counts.end(), 0);
  IndexStream random(seed, replicate);
  for (size_t i = 0; i < counts.size(); ++i) ++counts[random.Below(counts.size())];
}

void DrawCache::Counts(uint64_t seed, uint64_t replicate, std::span<uint32_t> counts) {
  std::vector<uint16_t>& kept = kept_[{seed, counts.size()}];
  const size_t units = counts.size(), begin = replicate * units;
  if (begin + units <= kept.size()) {
    std::copy_n(kept.begin() + static_cast<std::ptrdiff_t>(begin), units, counts.begin());
    return;
  }
  ResampleCounts(seed, replicate, counts);
  const bool fits = std::all_of(counts.begin(), counts.end(), [](uint32_t c) { return c <= UINT16_MAX; });
  if (begin != kept.size() || !fits || bytes_ + units * sizeof(uint16_t) > kKeptDrawBytesMax) return;
  kept.insert(kept.end(), counts.begin(), counts.end());
  bytes_ += units * sizeof(uint16_t);
}

BootstrapResult Bootstrap(size_t units, const ResampledStatistic& statistic, const BootstrapOptions& options) {
  BootstrapResult result;
  std::vector<uint32_t> counts(units, 1);
  result.estimate = statistic(counts);
  if (units < 2) return result;
  std::vector<double> replicates(options.replicates);
  for (size_t r = 0; r < options.replicates; ++r) {
    ResampleCounts(options.seed, r, counts);
    replicates[r] = statistic(counts);
  }
  Summarise(replicates, options.confidence, result);
  if (!result.percentile) return result;
  std::vector<double> jackknife(units);
  std::fill(counts.begin(), counts.end(), 1);
  for (size_t u = 0; u < units; ++u) {
    counts[u] = 0;
    jackknife[u] = statistic(counts);
    counts[u] = 1;
  }
  result.bca = BcaInterval(replicates, result.estimate, jackknife, options.confidence);
  return result;
}

std::vector<BootstrapResult> BootstrapSums(std::span<const double> rows, size_t columns,
                                           std::span<const SumsStatistic> statistics, const BootstrapOptions& options) {
  CONCLAVE_CHECK(columns > 0 && rows.size() % columns == 0);
  const size_t units = rows.size() / columns;
  std::vector<double> total(columns, 0);
  for (size_t i = 0; i < rows.size(); ++i) total[i % columns] += rows[i];
  std::vector<BootstrapResult> results(statistics.size());
  for (size_t s = 0; s < statistics.size(); ++s) results[s].estimate = statistics[s](total);
  if (units < 2) return results;
  std::vector<std::vector<double>> replicates(statistics.size(), std::vector<double>(options.replicates));
  std::vector<double> sums;
  for (size_t r = 0; r < options.replicates; r += kDrawsTogether) {
    const size_t draws = std::min(kDrawsTogether, options.replicates - r);
    SumDraws(rows, columns, options, r, draws, &sums);
    for (size_t d = 0; d < draws; ++d) {
      const std::span<const double> one = std::span<const double>(sums).subspan(d * columns, columns);
      for (size_t s = 0; s < statistics.size(); ++s) replicates[s][r + d] = statistics[s](one);
    }
  }
  std::vector<double> jackknife(units);
  sums.resize(columns);
  for (size_t s = 0; s < statistics.size(); ++s) {
    Summarise(replicates[s], options.confidence, results[s]);
    if (!results[s].percentile) continue;
    for (size_t u = 0; u < units; ++u) {
      for (size_t c = 0; c < columns; ++c) sums[c] = total[c] - rows[u * columns + c];
      jackknife[u] = statistics[s](sums);
    }
    results[s].bca = BcaInterval(replicates[s], results[s].estimate, jackknife, options.confidence);
  }
  return results;
}

BootstrapResult BootstrapSums(std::span<const double> rows, size_t columns, const SumsStatistic& statistic,
                              const BootstrapOptions& options) {
  return BootstrapSums(rows, columns, std::span<const SumsStatistic>(&statistic, 1), options)[0];
}

BootstrapResult BootstrapMean(std::span<const double> scores, std::span<const uint32_t> clusters,
                              const BootstrapOptions& options) {
  CONCLAVE_CHECK(clusters.empty() || clusters.size() == scores.size());
  std::vector<double> rows;  // per unit: sum of scores, number of questions
  std::unordered_map<uint32_t, size_t> index;
  for (size_t i = 0; i < scores.size(); ++i) {
    size_t unit = i;
    if (!clusters.empty()) unit = index.try_emplace(clusters[i], index.size()).first->second;
    if (2 * unit == rows.size()) rows.resize(rows.size() + 2, 0);
    rows[2 * unit] += scores[i];
    rows[2 * unit + 1] += 1;
  }
  return BootstrapSums(
      rows, 2, [](std::span<const double> sums) { return sums[0] / sums[1]; }, options);
}

BootstrapResult BootstrapSampledDifference(std::span<const double> a, size_t samples_a, std::span<const double> b,
                                           size_t samples_b, const BootstrapOptions& options) {
  CONCLAVE_CHECK(samples_a > 0 && samples_b > 0 && a.size() / samples_a == b.size() / samples_b);
  const size_t n = a.size() / samples_a;
  const auto mean = [](std::span<const double> rows) {
    double sum = 0;
    for (double v : rows) sum += v;
    return sum / static_cast<double>(rows.size());
  };
  BootstrapResult result;
  result.estimate = n == 0 ? std::numeric_limits<double>::quiet_NaN() : mean(a) - mean(b);
  if (n < 2) return result;
  std::vector<double> replicates(options.replicates);
  for (size_t r = 0; r < options.replicates; ++r) {
    IndexStream random(options.seed, r);
    double sum_a = 0;
    double sum_b = 0;
    for (size_t i = 0; i < n; ++i) {
      const size_t question = random.Below(n);
      for (size_t k = 0; k < samples_a; ++k) sum_a += a[question * samples_a + random.Below(samples_a)];
      for (size_t k = 0; k < samples_b; ++k) sum_b += b[question * samples_b + random.Below(samples_b)];
    }
    replicates[r] = sum_a / static_cast<double>(n * samples_a) - sum_b / static_cast<double>(n * samples_b);
  }
  Summarise(replicates, options.confidence, result);
  return result;
}

}  // namespace conclave::stats
