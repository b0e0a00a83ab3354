// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/votes.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/check.h"
#include "orchestrator/experiment/stats/special.h"

namespace conclave::stats {
namespace {

// C(n, 0..kmax).
std::vector<long double> ChooseRow(size_t n, size_t kmax) {
  std::vector<long double> row(kmax + 1, 0);
  row[0] = 1;
  for (size_t j = 1; j <= std::min(n, kmax); ++j) {
    row[j] = row[j - 1] * static_cast<long double>(n - j + 1) / static_cast<long double>(j);
  }
  return row;
}

// ways[j][t]: in how many ways the wrong classes fill j seats with no class above m votes and t classes at m.
using Ways = std::vector<std::vector<long double>>;

Ways WrongWays(const std::vector<std::vector<long double>>& rows, size_t seats, size_t m) {
  const size_t ties_max = seats / m;
  Ways ways(seats + 1, std::vector<long double>(ties_max + 1, 0));
  ways[0][0] = 1;
  size_t filled = 0;
  for (const std::vector<long double>& row : rows) {
    const size_t most = std::min({m, row.size() - 1, seats});
    Ways next(seats + 1, std::vector<long double>(ties_max + 1, 0));
    for (size_t j = 0; j <= filled; ++j) {
      for (size_t t = 0; t <= ties_max; ++t) {
        if (ways[j][t] == 0) continue;
        for (size_t x = 0; x <= most && j + x <= seats; ++x) {
          const size_t tied = t + (x == m ? 1 : 0);
          if (row[x] != 0 && tied <= ties_max) next[j + x][tied] += ways[j][t] * row[x];
        }
      }
    }
    filled = std::min(seats, filled + most);
    ways = std::move(next);
  }
  return ways;
}

double LogBeta(double a, double b) {
  int sign = 0;
  return lgamma_r(a, &sign) + lgamma_r(b, &sign) - lgamma_r(a + b, &sign);
}

}  // namespace

uint64_t VoteCounts::total() const {
  return std::accumulate(wrong.begin(), wrong.end(), uint64_t{correct} + no_answer);
}

std::optional<double> PassAtK(size_t n, size_t c, size_t k) {
  CONCLAVE_CHECK(c <= n);
  if (k == 0 || k > n) return std::nullopt;
  if (n - c < k) return 1.0;
  double none = 1;
  for (size_t j = n - c + 1; j <= n; ++j) none *= 1 - static_cast<double>(k) / static_cast<double>(j);
  return 1 - none;
}

std::optional<double> PassAllK(size_t n, size_t c, size_t k) {
  CONCLAVE_CHECK(c <= n);
  if (k == 0 || k > n) return std::nullopt;
  double all = 1;
  for (size_t j = 0; j < k; ++j) all *= c > j ? static_cast<double>(c - j) / static_cast<double>(n - j) : 0;
  return all;
}

std::optional<double> PassShareK(size_t n, size_t c, size_t k, double tau) {
  CONCLAVE_CHECK(c <= n && tau > 0 && tau <= 1);
  if (k == 0 || k > n || n > kVotersMax) return std::nullopt;
  const size_t least = static_cast<size_t>(std::ceil(tau * static_cast<double>(k) - 1e-9));
  const std::vector<long double> right = ChooseRow(c, k);
  const std::vector<long double> wrong = ChooseRow(n - c, k);
  long double sum = 0;
  for (size_t j = least; j <= k; ++j) sum += right[j] * wrong[k - j];
  return static_cast<double>(sum / ChooseRow(n, k)[k]);
}

std::optional<double> MajorityAtK(const VoteCounts& votes, size_t k) {
  const uint64_t total = votes.total();
  if (k == 0 || k > total || total > kVotersMax) return std::nullopt;
  std::vector<std::vector<long double>> rows;
  for (uint32_t count : votes.wrong) {
    if (count > 0) rows.push_back(ChooseRow(count, std::min<size_t>(count, k)));
  }
  const std::vector<long double> right = ChooseRow(votes.correct, k);
  const std::vector<long double> none = ChooseRow(votes.no_answer, k);
  long double wins = 0;
  for (size_t m = 1; m <= std::min<size_t>(k, votes.correct); ++m) {
    const size_t seats = k - m;
    const Ways ways = WrongWays(rows, seats, m);
    long double share = 0;
    for (size_t j = 0; j <= seats; ++j) {
      if (none[seats - j] == 0) continue;
      for (size_t t = 0; t < ways[j].size(); ++t) {
        share += ways[j][t] * none[seats - j] / static_cast<long double>(1 + t);
      }
    }
    wins += right[m] * share;
  }
  return static_cast<double>(wins / ChooseRow(static_cast<size_t>(total), k)[k]);
}

std::vector<Estimate> VoteCurve(std::span<const VoteCounts> questions, std::span<const size_t> sizes,
                                std::span<const uint32_t> clusters) {
  std::vector<Estimate> curve;
  std::vector<double> scores(questions.size());
  for (size_t k : sizes) {
    bool served = true;
    for (size_t i = 0; i < questions.size() && served; ++i) {
      const std::optional<double> p = MajorityAtK(questions[i], k);
      served = p.has_value();
      scores[i] = p.value_or(0);
    }
    curve.push_back(served ? Mean(scores, clusters) : Estimate{});
  }
  return curve;
}

double CondorcetMajority(size_t n, double p, double rho) {
  CONCLAVE_CHECK(n >= 1 && p > 0 && p < 1 && rho >= 0 && rho < 1);
  const double a = rho == 0 ? 0 : p * (1 - rho) / rho;
  const double b = rho == 0 ? 0 : (1 - p) * (1 - rho) / rho;
  const double voters = static_cast<double>(n);
  double sum = 0;
  for (size_t j = n / 2; j <= n; ++j) {
    if (2 * j < n) continue;
    const double right = static_cast<double>(j);
    double mass = 0;
    if (rho == 0) {
      mass = BinomialPmf(right, voters, p);
    } else {
      const double log_choose = -std::log(voters + 1) - LogBeta(right + 1, voters - right + 1);
      mass = std::exp(log_choose + LogBeta(right + a, voters - right + b) - LogBeta(a, b));
    }
    sum += 2 * j == n ? mass / 2 : mass;
  }
  return sum;
}

std::optional<double> EffectiveVotes(size_t n, double rho) {
  const double denominator = 1 + (static_cast<double>(n) - 1) * rho;
  if (!(denominator > 0)) return std::nullopt;
  return static_cast<double>(n) / denominator;
}

}  // namespace conclave::stats
