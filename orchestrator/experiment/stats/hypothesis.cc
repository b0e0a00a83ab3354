// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/hypothesis.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "common/check.h"
#include "common/hash.h"
#include "orchestrator/experiment/stats/special.h"

namespace conclave::stats {
namespace {

// Sums of differences per cluster, in order of first appearance, without those that are 0 (no sign changes them).
std::vector<double> ClusterSums(std::span<const double> differences, std::span<const uint32_t> clusters) {
  std::vector<double> sums;
  if (clusters.empty()) {
    sums.assign(differences.begin(), differences.end());
  } else {
    std::unordered_map<uint32_t, size_t> index;
    for (size_t i = 0; i < differences.size(); ++i) {
      const auto [it, added] = index.try_emplace(clusters[i], sums.size());
      if (added) sums.push_back(0);
      sums[it->second] += differences[i];
    }
  }
  std::erase(sums, 0.0);
  return sums;
}

// How many sign patterns give a |sum| above, and how many one equal to, that of the data. Equal within `rounding`: the
// same sums added in another order.
struct Hits {
  uint64_t above = 0, equal = 0;
  void Count(double total, double observed, double rounding) {
    const double more = std::fabs(total) - observed;
    if (more > rounding) {
      ++above;
    } else if (more >= -rounding) {
      ++equal;
    }
  }
};

// All 2^G sign patterns, visited in Gray-code order. By symmetry the last sign is held.
SignFlipResult AllPatterns(const std::vector<double>& sums, double observed, double rounding) {
  double total = std::accumulate(sums.begin(), sums.end(), 0.0);
  std::vector<double> signed_sums = sums;
  const uint64_t patterns = uint64_t{1} << (sums.size() - 1);
  Hits hits;
  hits.Count(total, observed, rounding);
  for (uint64_t i = 1; i < patterns; ++i) {
    const size_t flip = static_cast<size_t>(std::countr_zero(i));
    total -= 2 * signed_sums[flip];
    signed_sums[flip] = -signed_sums[flip];
    hits.Count(total, observed, rounding);
  }
  const double above = static_cast<double>(hits.above);
  const double equal = static_cast<double>(hits.equal);
  return {(above + equal) / static_cast<double>(patterns), (above + equal / 2) / static_cast<double>(patterns), true};
}

using PhiloxKey = std::array<uint32_t, 2>;

// The total under the random signs of replicate r: bit 1 keeps a sum's sign, bit 0 turns it.
double RandomTotal(const std::vector<double>& sums, PhiloxKey key, uint32_t r) {
  double total = 0;
  std::array<uint32_t, 4> bits{};
  for (size_t i = 0; i < sums.size(); ++i) {
    if (i % 128 == 0) bits = Philox4x32(key, {static_cast<uint32_t>(i / 128), r, 0, 1});
    const size_t bit = i % 128;
    total += (bits[bit / 32] >> (bit % 32)) & 1 ? sums[i] : -sums[i];
  }
  return total;
}

// Sums that are all +m or -m, as with one answer per question: RandomTotal with the same signs, 32 of them at once.
class EqualSums {
 public:
  explicit EqualSums(const std::vector<double>& sums)
      : magnitude_(std::fabs(sums[0])), count_(static_cast<double>(sums.size())) {
    positive_.assign((sums.size() + 31) / 32, 0);
    present_ = positive_;
    for (size_t i = 0; i < sums.size(); ++i) {
      present_[i / 32] |= uint32_t{1} << (i % 32);
      if (sums[i] > 0) positive_[i / 32] |= uint32_t{1} << (i % 32);
    }
  }
  static bool Are(const std::vector<double>& sums) {
    return std::all_of(sums.begin(), sums.end(), [&](double s) { return std::fabs(s) == std::fabs(sums[0]); });
  }
  double RandomTotal(PhiloxKey key, uint32_t r) const {
    int64_t plus = 0;
    std::array<uint32_t, 4> bits{};
    for (size_t w = 0; w < present_.size(); ++w) {
      if (w % 4 == 0) bits = Philox4x32(key, {static_cast<uint32_t>(w / 4), r, 0, 1});
      plus += std::popcount(~(bits[w % 4] ^ positive_[w]) & present_[w]);
    }
    return magnitude_ * (2 * static_cast<double>(plus) - count_);
  }

 private:
  const double magnitude_, count_;
  std::vector<uint32_t> positive_, present_;
};

SignFlipResult RandomPatterns(const std::vector<double>& sums, double observed, double rounding, uint64_t seed,
                              size_t replicates) {
  const PhiloxKey key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const auto equal_sums = EqualSums::Are(sums) ? std::optional<EqualSums>(sums) : std::nullopt;
  Hits hits;
  for (size_t i = 0; i < replicates; ++i) {
    const auto r = static_cast<uint32_t>(i);
    hits.Count(equal_sums ? equal_sums->RandomTotal(key, r) : RandomTotal(sums, key, r), observed, rounding);
  }
  const double above = static_cast<double>(hits.above);
  const double equal = static_cast<double>(hits.equal) + 1;  // the data themselves
  const double all = static_cast<double>(replicates + 1);
  return {(above + equal) / all, (above + equal / 2) / all, false};
}

double ZSum(double alpha_tail, double power) { return NormalQuantile(1 - alpha_tail) + NormalQuantile(power); }

std::vector<size_t> OrderOf(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return p[i] < p[j]; });
  return order;
}

}  // namespace

PairedCounts CountPairs(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  CONCLAVE_CHECK(a.size() == b.size());
  PairedCounts counts;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != 0) {
      ++(b[i] != 0 ? counts.both : counts.a_only);
    } else {
      ++(b[i] != 0 ? counts.b_only : counts.neither);
    }
  }
  return counts;
}

McNemarResult McNemar(size_t a_only, size_t b_only) {
  const size_t discordant = a_only + b_only;
  if (discordant == 0) return {};
  const size_t smaller = std::min(a_only, b_only);
  const double point = BinomialPmf(static_cast<double>(smaller), static_cast<double>(discordant), 0.5);
  const double below = BinomialCdf(static_cast<int64_t>(smaller), static_cast<int64_t>(discordant), 0.5);
  McNemarResult result;
  result.p_exact = std::min(1.0, 2 * below);
  // With equal counts 2 * below counts the middle point twice: 1 + point, and mid-p takes half the point from 1.
  result.p_mid = a_only == b_only ? 1 - point / 2 : 2 * below - point;
  return result;
}

SignFlipResult SignFlip(std::span<const double> differences, std::span<const uint32_t> clusters, uint64_t seed,
                        size_t replicates) {
  CONCLAVE_CHECK(clusters.empty() || clusters.size() == differences.size());
  const std::vector<double> sums = ClusterSums(differences, clusters);
  if (sums.empty()) return {};
  double total = 0;
  double scale = 0;
  for (double s : sums) total += s, scale += std::fabs(s);
  const double rounding = 1e-12 * scale;
  if (sums.size() <= kSignFlipExactUnits) return AllPatterns(sums, std::fabs(total), rounding);
  return RandomPatterns(sums, std::fabs(total), rounding, seed, replicates);
}

std::vector<double> Holm(std::span<const double> p) {
  const std::vector<size_t> order = OrderOf(p);
  std::vector<double> adjusted(p.size());
  double running = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    running = std::max(running, std::min(1.0, static_cast<double>(p.size() - i) * p[order[i]]));
    adjusted[order[i]] = running;
  }
  return adjusted;
}

std::vector<double> BenjaminiHochberg(std::span<const double> p) {
  const std::vector<size_t> order = OrderOf(p);
  std::vector<double> adjusted(p.size());
  double running = 1;
  for (size_t i = order.size(); i-- > 0;) {
    running = std::min(running, static_cast<double>(p.size()) / static_cast<double>(i + 1) * p[order[i]]);
    adjusted[order[i]] = running;
  }
  return adjusted;
}

std::optional<EquivalenceResult> Equivalence(const Estimate& difference, double margin, double alpha) {
  CONCLAVE_CHECK(margin > 0);
  if (!difference.se || *difference.se == 0) return std::nullopt;
  const bool normal = std::isinf(difference.df);
  const auto cdf = [&](double t) { return normal ? NormalCdf(t) : StudentTCdf(t, difference.df); };
  const double quantile = normal ? NormalQuantile(1 - alpha) : StudentTQuantile(1 - alpha, difference.df);
  const double se = *difference.se;
  EquivalenceResult result;
  result.p_lower = cdf(-(difference.mean + margin) / se);
  result.p_upper = cdf((difference.mean - margin) / se);
  result.interval = {difference.mean - quantile * se, difference.mean + quantile * se};
  result.noninferior = result.interval.lo > -margin;
  result.equivalent = result.noninferior && result.interval.hi < margin;
  return result;
}

double MinimumDetectable(double variance, size_t n, double alpha, double power) {
  return MinimumDetectableFromSe(std::sqrt(variance / static_cast<double>(n)), alpha, power);
}

double MinimumDetectableFromSe(double se, double alpha, double power) { return ZSum(alpha / 2, power) * se; }

double QuestionsNeeded(double variance, double difference, double alpha, double power) {
  CONCLAVE_CHECK(difference != 0);
  const double z = ZSum(alpha / 2, power);
  return z * z * variance / (difference * difference);
}

double QuestionsForEquivalence(double variance, double margin, double alpha, double power) {
  CONCLAVE_CHECK(margin > 0);
  const double z = ZSum(alpha, power);
  return z * z * variance / (margin * margin);
}

double Power(double difference, double se, double alpha) {
  CONCLAVE_CHECK(se > 0);
  const double z = NormalQuantile(1 - alpha / 2);
  const double effect = std::fabs(difference) / se;
  return NormalCdf(effect - z) + NormalCdf(-effect - z);
}

}  // namespace conclave::stats
