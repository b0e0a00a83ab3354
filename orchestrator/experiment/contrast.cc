// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/contrast.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "common/status.h"
#include "orchestrator/experiment/stats/hypothesis.h"

namespace conclave::experiment {
namespace {

// Labels as numbers, in order of first appearance.
std::vector<uint32_t> Number(std::span<const std::string> labels) {
  std::unordered_map<std::string, uint32_t> numbers;
  std::vector<uint32_t> out;
  for (const std::string& label : labels) {
    out.push_back(numbers.try_emplace(label, static_cast<uint32_t>(numbers.size())).first->second);
  }
  return out;
}

void AddCost(const Outcome& row, Outcome* sum) {
  sum->calls += row.calls;
  sum->prompt_tokens += row.prompt_tokens;
  sum->cached_tokens += row.cached_tokens;
  sum->output_tokens += row.output_tokens;
  sum->flops += row.flops;
  sum->weight_bytes += row.weight_bytes;
  sum->kv_bytes += row.kv_bytes;
  sum->lost_calls += row.lost_calls;
  sum->seconds += row.seconds;
  sum->usd += row.usd;
  sum->estimated |= row.estimated;
}

void DivideCost(double n, Outcome* sum) {
  for (double* value : {&sum->calls, &sum->prompt_tokens, &sum->cached_tokens, &sum->output_tokens, &sum->flops,
                        &sum->weight_bytes, &sum->kv_bytes, &sum->lost_calls, &sum->seconds, &sum->usd}) {
    *value /= n;
  }
}

ArmScores ScoreArm(const std::string& name, const std::vector<const Outcome*>& rows) {
  ArmScores arm;
  arm.name = name;
  std::unordered_map<std::string, size_t> index;
  std::vector<int32_t> counts;
  for (const Outcome* row : rows) {
    const auto [it, fresh] = index.try_emplace(row->id, arm.items.size());
    if (fresh) {
      arm.items.push_back(row->id);
      arm.scores.push_back(0);
      counts.push_back(0);
      // A cluster name cannot collide with an item's own: items are marked.
      arm.cluster_names.push_back(row->cluster.empty() ? "\x01" + row->id : row->cluster);
      arm.strata.push_back(row->stratum);
    }
    arm.scores[it->second] += row->kind == OutcomeKind::kCorrect ? 1 : 0;
    ++counts[it->second];
    ++arm.kinds[static_cast<size_t>(row->kind)];
    AddCost(*row, &arm.mean_cost);
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    arm.scores[i] /= counts[i];
    arm.replicates = std::max(arm.replicates, counts[i]);
  }
  arm.even = std::all_of(counts.begin(), counts.end(), [&](int32_t count) { return count == arm.replicates; });
  DivideCost(static_cast<double>(rows.size()), &arm.mean_cost);
  arm.clustered = std::set<std::string>(arm.cluster_names.begin(), arm.cluster_names.end()).size() < arm.items.size();
  return arm;
}

// nullopt unless every item has a stratum and there are two.
std::optional<stats::StratifiedEstimate> ByStratum(std::span<const double> scores,
                                                   std::span<const std::string> strata) {
  const bool all = std::none_of(strata.begin(), strata.end(), [](const std::string& name) { return name.empty(); });
  if (!all) return std::nullopt;
  stats::StratifiedEstimate e = stats::StratifiedMean(scores, Number(strata));
  if (e.strata < 2) return std::nullopt;
  e.micro = stats::Within(e.micro, 0, 1);
  e.macro = stats::Within(e.macro, 0, 1);
  return e;
}

// Means of `samples` 0/1 answers as rows of answers again.
std::vector<double> Rows(std::span<const double> means, int32_t samples) {
  std::vector<double> rows;
  for (const double mean : means) {
    const auto right = static_cast<int32_t>(std::lround(mean * samples));
    for (int32_t s = 0; s < samples; ++s) rows.push_back(s < right ? 1 : 0);
  }
  return rows;
}

}  // namespace

std::vector<ArmScores> SplitByArm(std::span<const Outcome> rows) {
  std::vector<std::string> order;
  std::unordered_map<std::string, std::vector<const Outcome*>> by_arm;
  for (const Outcome& row : rows) {
    auto [it, fresh] = by_arm.try_emplace(row.arm);
    if (fresh) order.push_back(row.arm);
    it->second.push_back(&row);
  }
  std::vector<ArmScores> arms;
  arms.reserve(order.size());
  for (const std::string& name : order) arms.push_back(ScoreArm(name, by_arm.at(name)));
  return arms;
}

std::vector<uint32_t> ClusterNumbers(const ArmScores& arm) { return Number(arm.cluster_names); }

stats::Estimate Accuracy(const ArmScores& arm) {
  const std::vector<uint32_t> clusters = arm.clustered ? ClusterNumbers(arm) : std::vector<uint32_t>();
  return stats::Within(stats::Mean(arm.scores, clusters), 0, 1);
}

std::optional<stats::Interval> AccuracyInterval(const ArmScores& arm) {
  if (arm.replicates > 1 || arm.clustered) return stats::RateInterval(Accuracy(arm));
  return stats::Wilson(static_cast<size_t>(arm.kinds[static_cast<size_t>(OutcomeKind::kCorrect)]), arm.items.size());
}

std::optional<stats::StratifiedEstimate> AccuracyByStratum(const ArmScores& arm) {
  return ByStratum(arm.scores, arm.strata);
}

absl::StatusOr<Contrast> Compare(const ArmScores& a, const ArmScores& b, double margin, uint64_t seed) {
  std::unordered_map<std::string, size_t> in_b;
  for (size_t i = 0; i < b.items.size(); ++i) in_b.emplace(b.items[i], i);
  std::vector<double> sa, sb, differences;
  std::vector<std::string> clusters;
  for (size_t i = 0; i < a.items.size(); ++i) {
    const auto it = in_b.find(a.items[i]);
    if (it == in_b.end()) continue;
    sa.push_back(a.scores[i]);
    sb.push_back(b.scores[it->second]);
    differences.push_back(sa.back() - sb.back());
    clusters.push_back(a.cluster_names[i]);
  }
  if (sa.empty()) return InvalidArgument("arms \"{}\" and \"{}\" have no item in common", a.name, b.name);

  Contrast c;
  c.a = a.name, c.b = b.name, c.n = sa.size(), c.margin = margin;
  c.unmatched = a.items.size() + b.items.size() - 2 * sa.size();
  const std::vector<uint32_t> numbers = a.clustered ? Number(clusters) : std::vector<uint32_t>();
  const stats::PairedDifference paired = stats::Difference(sa, sb, numbers);
  c.difference = stats::Within(paired.difference, -1, 1);
  c.correlation = paired.correlation;
  c.se_unpaired = paired.se_unpaired;
  c.replicates_a = a.replicates, c.replicates_b = b.replicates;
  if (a.even && b.even)
    c.noise = stats::SplitNoise(Rows(sa, a.replicates), static_cast<size_t>(a.replicates), Rows(sb, b.replicates),
                                static_cast<size_t>(b.replicates));
  if (a.replicates == 1 && b.replicates == 1 && !a.clustered) {
    const std::vector<uint8_t> xa(sa.begin(), sa.end()), xb(sb.begin(), sb.end());
    const stats::PairedCounts counts = stats::CountPairs(xa, xb);
    const stats::McNemarResult mcnemar = stats::McNemar(counts.a_only, counts.b_only);
    c.a_only = static_cast<int64_t>(counts.a_only);
    c.b_only = static_cast<int64_t>(counts.b_only);
    c.mcnemar_exact = mcnemar.p_exact;
    c.mcnemar_mid_p = mcnemar.p_mid;
  }
  const stats::SignFlipResult sign_flip = stats::SignFlip(differences, numbers, seed);
  c.sign_flip_p = sign_flip.p;
  c.sign_flip_mid_p = sign_flip.p_mid;
  if (const auto equivalence = stats::Equivalence(c.difference, margin)) {
    c.equivalent = equivalence->equivalent;
    c.noninferior = equivalence->noninferior;
  }
  if (c.difference.se && *c.difference.se > 0) c.mde80 = stats::MinimumDetectableFromSe(*c.difference.se);
  return c;
}

}  // namespace conclave::experiment
