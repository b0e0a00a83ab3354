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

// What matched comparisons need of each unit, summed over its questions: their number, the arm's score, per size the
// accuracy of so many votes; and then for each kind of cost the arm's and, per size, what so many votes cost.
constexpr size_t kQuestions = 0, kScore = 1, kAccuracies = 2;

// Where each kind of cost begins in the sums; last, how many columns there are.
std::vector<size_t> CostColumns(const MatchInput& in, size_t sizes) {
  std::vector<size_t> begins = {kAccuracies + sizes};
  for (const CostInput& cost : in.costs) begins.push_back(begins.back() + 1 + (cost.votes.empty() ? 1 : sizes));
  return begins;
}

std::vector<double> MatchRows(const MatchInput& in, size_t sizes, size_t columns) {
  const size_t n = in.scores.size();
  CONCLAVE_CHECK(in.accuracies.size() == n * sizes);
  CONCLAVE_CHECK(in.clusters.empty() || in.clusters.size() == n);
  for (const CostInput& cost : in.costs) {
    CONCLAVE_CHECK(cost.arm.size() == n);
    CONCLAVE_CHECK(cost.votes.empty() ? cost.whole.size() == n && cost.shares.size() == sizes
                                      : cost.votes.size() == n * sizes);
  }
  const auto units = Units(n, in.clusters);
  std::vector<double> rows(units.size() * columns, 0);
  for (size_t u = 0; u < units.size(); ++u) {
    for (const size_t i : units[u]) {
      double* at = &rows[u * columns];
      *at++ += 1;
      *at++ += in.scores[i];
      for (size_t s = 0; s < sizes; ++s) *at++ += in.accuracies[i * sizes + s];
      for (const CostInput& cost : in.costs) {
        *at++ += cost.arm[i];
        if (cost.votes.empty()) *at++ += cost.whole[i];
        for (size_t s = 0; s < sizes && !cost.votes.empty(); ++s) *at++ += cost.votes[i * sizes + s];
      }
    }
  }
  return rows;
}

// The curve of a resample in one kind of cost, whose columns begin at `begin`, from its sums.
std::vector<CurvePoint> CurveOf(std::span<const double> sums, const CostInput& cost, size_t begin, size_t sizes) {
  std::vector<CurvePoint> curve;
  for (size_t s = 0; s < sizes; ++s) {
    const double votes = cost.votes.empty() ? sums[begin + 1] * cost.shares[s] : sums[begin + 1 + s];
    curve.push_back({votes / sums[kQuestions], sums[kAccuracies + s] / sums[kQuestions]});
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

std::vector<std::optional<MatchedDifference>> CompareAtCosts(const MatchInput& input, std::span<const size_t> sizes,
                                                             const BootstrapOptions& options) {
  std::vector<std::optional<MatchedDifference>> results(input.costs.size());
  if (input.scores.empty() || sizes.empty()) return results;
  const size_t n = sizes.size();
  const std::vector<size_t> begins = CostColumns(input, n);
  const size_t columns = begins.back();
  const std::vector<double> rows = MatchRows(input, n, columns);
  std::vector<double> total(columns, 0);
  for (size_t i = 0; i < rows.size(); ++i) total[i % columns] += rows[i];
  std::vector<size_t> inside;
  std::vector<SumsStatistic> differences;
  for (size_t c = 0; c < input.costs.size(); ++c) {
    const CostInput& kind = input.costs[c];
    const size_t begin = begins[c];
    const std::vector<CurvePoint> curve = CurveOf(total, kind, begin, n);
    MatchedDifference one;
    one.cost = total[begin] / total[kQuestions];
    one.least = curve.front().cost, one.most = curve.back().cost;
    if (!(one.least > 0) || !(one.cost > 0)) continue;
    one.difference.estimate = std::numeric_limits<double>::quiet_NaN();
    if (one.cost < one.least || one.cost > one.most) {
      one.range = one.cost < one.least ? MatchRange::kBelow : MatchRange::kAbove;
    } else {
      const auto [i, t] = Locate(curve, one.cost);
      const double k = static_cast<double>(sizes[i]);
      one.votes = t == 0 ? k : k * std::pow(static_cast<double>(sizes[i + 1]) / k, t);
      one.accuracy = At(curve, {i, t});
      inside.push_back(c);
      differences.emplace_back([kind, begin, n](std::span<const double> sums) {
        const auto at = ReadCurve(CurveOf(sums, kind, begin, n), sums[begin] / sums[kQuestions]);
        return at ? sums[kScore] / sums[kQuestions] - *at : std::numeric_limits<double>::quiet_NaN();
      });
    }
    results[c] = one;
  }
  if (inside.empty()) return results;
  BootstrapOptions bounded = options;
  bounded.replicates = ReplicatesFor(options.replicates, rows.size());
  std::vector<BootstrapResult> found = BootstrapSums(rows, columns, differences, bounded);
  for (size_t i = 0; i < inside.size(); ++i) results[inside[i]]->difference = found[i];
  return results;
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
