// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/curve.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "common/check.h"

namespace conclave::stats {
namespace {

// Index of the segment [i, i + 1] that holds `cost`, and how far along it in log cost. REQUIRES: inside the curve.
std::pair<size_t, double> Locate(std::span<const CurvePoint> curve, double cost) {
  size_t i = 0;
  while (i + 2 < curve.size() && curve[i + 1].cost < cost) ++i;
  if (curve.size() == 1 || curve[i + 1].cost == curve[i].cost) return {i, 0};
  return {i, std::log(cost / curve[i].cost) / std::log(curve[i + 1].cost / curve[i].cost)};
}

double At(std::span<const CurvePoint> curve, std::pair<size_t, double> place) {
  const auto [i, t] = place;
  if (t == 0) return curve[i].accuracy;
  return curve[i].accuracy + t * (curve[i + 1].accuracy - curve[i].accuracy);
}

// Questions as units of the bootstrap: members[unit] lists them.
std::vector<std::vector<size_t>> Units(size_t n, std::span<const uint32_t> clusters) {
  std::vector<std::vector<size_t>> units;
  std::unordered_map<uint32_t, size_t> index;
  for (size_t i = 0; i < n; ++i) {
    size_t unit = i;
    if (!clusters.empty()) unit = index.try_emplace(clusters[i], index.size()).first->second;
    if (unit == units.size()) units.emplace_back();
    units[unit].push_back(i);
  }
  return units;
}

size_t ReplicatesFor(size_t wanted, size_t work_each) {
  return std::clamp(kMatchWorkMax / std::max<size_t>(1, work_each), std::min(kMatchReplicatesMin, wanted), wanted);
}

// What a matched comparison needs of each unit, summed over its questions: their number, the arm's score and cost, and
// per size the accuracy and the cost of so many votes.
constexpr size_t kQuestions = 0, kScore = 1, kCost = 2, kCurve = 3;

std::vector<double> MatchRows(const MatchInput& in, size_t sizes) {
  const size_t n = in.scores.size();
  CONCLAVE_CHECK(in.costs.size() == n && in.accuracies.size() == n * sizes);
  CONCLAVE_CHECK(in.clusters.empty() || in.clusters.size() == n);
  CONCLAVE_CHECK(in.vote_costs.size() == n * sizes);
  const size_t columns = kCurve + 2 * sizes;
  const auto units = Units(n, in.clusters);
  std::vector<double> rows(units.size() * columns, 0);
  for (size_t u = 0; u < units.size(); ++u) {
    const std::span<double> row(&rows[u * columns], columns);
    for (const size_t i : units[u]) {
      row[kQuestions] += 1;
      row[kScore] += in.scores[i];
      row[kCost] += in.costs[i];
      for (size_t s = 0; s < sizes; ++s) {
        row[kCurve + 2 * s] += in.accuracies[i * sizes + s];
        row[kCurve + 2 * s + 1] += in.vote_costs[i * sizes + s];
      }
    }
  }
  return rows;
}

// The curve of a resample, from its sums.
std::vector<CurvePoint> CurveOf(std::span<const double> sums) {
  std::vector<CurvePoint> curve;
  for (size_t c = kCurve; c + 1 < sums.size(); c += 2) {
    curve.push_back({sums[c + 1] / sums[kQuestions], sums[c] / sums[kQuestions]});
  }
  return curve;
}

}  // namespace

std::optional<double> ReadCurve(std::span<const CurvePoint> curve, double cost) {
  if (curve.empty() || !(cost >= curve.front().cost && cost <= curve.back().cost)) return std::nullopt;
  return At(curve, Locate(curve, cost));
}

std::optional<double> AreaUnderCurve(std::span<const CurvePoint> curve, double lo, double hi) {
  const std::optional<double> first = ReadCurve(curve, lo);
  const std::optional<double> last = ReadCurve(curve, hi);
  if (!first || !last || !(lo < hi)) return std::nullopt;
  double area = 0;
  CurvePoint before{lo, *first};
  const auto add = [&](const CurvePoint& point) {
    area += (before.accuracy + point.accuracy) / 2 * std::log(point.cost / before.cost);
    before = point;
  };
  for (const CurvePoint& point : curve) {
    if (point.cost > lo && point.cost < hi) add(point);
  }
  add({hi, *last});
  return area / std::log(hi / lo);
}

std::optional<double> MeanLargest(std::span<const double> values, size_t k) {
  const size_t n = values.size();
  if (k == 0 || k > n || n > kVotersMax) return std::nullopt;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  // Chance that the j-th is the largest, from the last down: p_n = k/n, p_j = p_(j+1) (j - k + 1) / j.
  double chance = static_cast<double>(k) / static_cast<double>(n);
  double sum = 0;
  for (size_t j = n; j >= k; --j) {
    sum += chance * sorted[j - 1];
    if (j > 1) chance *= static_cast<double>(j - k) / static_cast<double>(j - 1);
  }
  return sum;
}

std::optional<std::vector<double>> MajorityTable(std::span<const VoteCounts> votes, std::span<const size_t> sizes) {
  std::vector<double> table;
  for (const VoteCounts& question : votes) {
    for (const size_t size : sizes) {
      const std::optional<double> p = MajorityAtK(question, size);
      if (!p) return std::nullopt;
      table.push_back(*p);
    }
  }
  return table;
}

std::optional<MatchedDifference> CompareAtCost(const MatchInput& input, std::span<const size_t> sizes,
                                               const BootstrapOptions& options) {
  if (input.scores.empty() || sizes.empty()) return std::nullopt;
  const std::vector<double> rows = MatchRows(input, sizes.size());
  const size_t columns = kCurve + 2 * sizes.size();
  MatchedDifference result;
  const auto difference = [](std::span<const double> sums) {
    const std::optional<double> at = ReadCurve(CurveOf(sums), sums[kCost] / sums[kQuestions]);
    return at ? sums[kScore] / sums[kQuestions] - *at : std::numeric_limits<double>::quiet_NaN();
  };
  std::vector<double> total(columns, 0);
  for (size_t i = 0; i < rows.size(); ++i) total[i % columns] += rows[i];
  const std::vector<CurvePoint> curve = CurveOf(total);
  result.cost = total[kCost] / total[kQuestions];
  result.least = curve.front().cost, result.most = curve.back().cost;
  if (!(result.least > 0) || !(result.cost > 0)) return std::nullopt;
  if (result.cost < result.least || result.cost > result.most) {
    result.range = result.cost < result.least ? MatchRange::kBelow : MatchRange::kAbove;
    result.difference.estimate = std::numeric_limits<double>::quiet_NaN();
    return result;
  }
  const auto [i, t] = Locate(curve, result.cost);
  const double k = static_cast<double>(sizes[i]);
  result.votes = t == 0 ? k : k * std::pow(static_cast<double>(sizes[i + 1]) / k, t);
  result.accuracy = At(curve, {i, t});
  BootstrapOptions bounded = options;
  bounded.replicates = ReplicatesFor(options.replicates, rows.size());
  result.difference = BootstrapSums(rows, columns, difference, bounded);
  return result;
}

std::vector<uint8_t> OnFrontier(std::span<const CurvePoint> points) {
  std::vector<uint8_t> on(points.size(), 1);
  for (size_t i = 0; i < points.size(); ++i) {
    for (size_t j = 0; j < points.size() && on[i] != 0; ++j) {
      const bool as_good = points[j].cost <= points[i].cost && points[j].accuracy >= points[i].accuracy;
      const bool better = points[j].cost < points[i].cost || points[j].accuracy > points[i].accuracy;
      if (as_good && better) on[i] = 0;
    }
  }
  return on;
}

std::vector<double> FrontierProbability(std::span<const double> scores, std::span<const double> costs, size_t arms,
                                        std::span<const uint32_t> clusters, const BootstrapOptions& options) {
  CONCLAVE_CHECK(arms > 0 && scores.size() == costs.size() && scores.size() % arms == 0);
  const size_t n = scores.size() / arms;
  std::vector<double> probability(arms, 0);
  const auto units = Units(n, clusters);
  if (units.size() < 2) return {};
  const size_t columns = 1 + 2 * arms;
  std::vector<double> rows(units.size() * columns, 0);
  for (size_t u = 0; u < units.size(); ++u) {
    for (const size_t i : units[u]) {
      rows[u * columns] += 1;
      for (size_t a = 0; a < arms; ++a) {
        rows[u * columns + 1 + 2 * a] += scores[a * n + i];
        rows[u * columns + 2 + 2 * a] += costs[a * n + i];
      }
    }
  }
  BootstrapOptions bounded = options;
  bounded.replicates = ReplicatesFor(options.replicates, rows.size());
  size_t draws = 0;  // the first is of the data itself
  std::vector<CurvePoint> points(arms);
  BootstrapSums(
      rows, columns,
      [&](std::span<const double> sums) {
        for (size_t a = 0; a < arms; ++a) points[a] = {sums[2 + 2 * a] / sums[0], sums[1 + 2 * a] / sums[0]};
        const bool counted = draws >= 1 && draws <= bounded.replicates;
        ++draws;
        if (!counted) return 0.0;
        const std::vector<uint8_t> on = OnFrontier(points);
        for (size_t a = 0; a < arms; ++a) probability[a] += on[a];
        return 0.0;
      },
      bounded);
  for (double& p : probability) p /= static_cast<double>(bounded.replicates);
  return probability;
}

}  // namespace conclave::stats
