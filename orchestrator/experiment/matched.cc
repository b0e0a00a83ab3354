// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/matched.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include "orchestrator/experiment/or_null.h"
#include "orchestrator/experiment/stats/curve.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

struct Unit {
  const char* name;   // as CostUnitName
  const char* field;  // of arms[].cost, for the frontier; "": none
  double (*of)(const Outcome&);
};
constexpr Unit kUnits[] = {
    {"flops", "flops", [](const Outcome& o) { return o.flops; }},
    {"weight_bytes", "weight_bytes", [](const Outcome& o) { return o.weight_bytes; }},
    {"tokens", "", [](const Outcome& o) { return o.prompt_tokens - o.cached_tokens + o.output_tokens; }},
    {"calls", "calls", [](const Outcome& o) { return o.calls; }},
    {"critical_seconds", "seconds", [](const Outcome& o) { return o.seconds; }},
    {"price", "usd", [](const Outcome& o) { return o.usd; }},
    {"", "output_tokens", [](const Outcome& o) { return o.output_tokens; }},
};

constexpr size_t kCalls = 3;  // in kUnits
// Lost calls leave no vote; a few of them do not make another arm of it.
constexpr double kCallsPerVoteMax = 1.05;

// Calls of one question that run side by side take as long as the slowest.
bool SideBySide(size_t unit) { return std::string_view(kUnits[unit].name) == "critical_seconds"; }

// One arm by item: score and cost per unit, means over replicates.
struct Items {
  std::vector<std::string> ids;
  std::unordered_map<std::string, size_t> index;
  std::vector<double> scores, runs;
  std::vector<std::array<double, std::size(kUnits)>> costs;
  std::vector<std::string> clusters;
};

std::map<std::string, Items> ByArm(std::span<const Outcome> rows) {
  std::map<std::string, Items> arms;
  for (const Outcome& row : rows) {
    Items& arm = arms[row.arm];
    const auto [it, fresh] = arm.index.try_emplace(row.id, arm.ids.size());
    if (fresh) {
      arm.ids.push_back(row.id);
      arm.scores.push_back(0);
      arm.runs.push_back(0);
      arm.costs.emplace_back();
      arm.clusters.push_back(row.cluster);
    }
    arm.scores[it->second] += row.kind == OutcomeKind::kCorrect ? 1 : 0;
    arm.runs[it->second] += 1;
    for (size_t u = 0; u < std::size(kUnits); ++u) arm.costs[it->second][u] += kUnits[u].of(row);
  }
  for (auto& [name, arm] : arms) {
    for (size_t i = 0; i < arm.ids.size(); ++i) {
      arm.scores[i] /= arm.runs[i];
      for (double& cost : arm.costs[i]) cost /= arm.runs[i];
    }
  }
  return arms;
}

// Labels of the items' clusters; empty where no cluster holds two.
std::vector<uint32_t> Clusters(const Items& arm, std::span<const size_t> chosen) {
  std::vector<uint32_t> labels;
  std::unordered_map<std::string, uint32_t> numbers;
  for (const size_t i : chosen) {
    const std::string name = arm.clusters[i].empty() ? "\x01" + arm.ids[i] : arm.clusters[i];
    labels.push_back(numbers.try_emplace(name, static_cast<uint32_t>(numbers.size())).first->second);
  }
  if (numbers.size() == chosen.size()) labels.clear();
  return labels;
}

// An arm and the curve it is compared with.
struct Match {
  const Items* arm = nullptr;
  const Items* curve = nullptr;
  const ArmVotes* votes = nullptr;
  std::vector<size_t> of_arm, of_curve, of_votes;  // places of the items that both have
  std::vector<size_t> sizes;
  std::vector<double> accuracies;  // [items, sizes]
  std::vector<uint32_t> clusters;
};

// The majorities of a curve's votes on these of its questions, which most arms have in common.
using Tables = std::map<std::pair<const ArmVotes*, std::vector<size_t>>, std::vector<double>>;

std::optional<Match> MakeMatch(const Items& arm, const Items& curve, const ArmVotes& votes, Tables* tables) {
  Match match{&arm, &curve, &votes, {}, {}, {}, {}, {}, {}};
  std::vector<stats::VoteCounts> counts;
  uint64_t least = stats::kVotersMax;
  for (size_t v = 0; v < votes.items.size() && v < votes.ids.size(); ++v) {
    const auto a = arm.index.find(votes.ids[v]), c = curve.index.find(votes.ids[v]);
    if (a == arm.index.end() || c == curve.index.end()) continue;
    match.of_arm.push_back(a->second);
    match.of_curve.push_back(c->second);
    match.of_votes.push_back(v);
    counts.push_back(votes.items[v]);
    least = std::min(least, votes.items[v].total());
  }
  if (counts.empty() || least < 2) return std::nullopt;
  // A curve is answers and nothing else: an arm that also plans or judges costs more than its votes do.
  double calls = 0;
  double cast = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    calls += curve.costs[match.of_curve[i]][kCalls];
    cast += static_cast<double>(counts[i].total());
  }
  if (calls > kCallsPerVoteMax * cast) return std::nullopt;
  match.sizes = CurveSizes(static_cast<size_t>(least));
  std::vector<double>& table = (*tables)[{&votes, match.of_votes}];
  if (table.empty()) {
    auto made = stats::MajorityTable(counts, match.sizes);
    if (!made) return std::nullopt;
    table = *std::move(made);
  }
  match.accuracies = table;
  match.clusters = Clusters(arm, match.of_arm);
  return match;
}

// What so many votes cost on each question, in full: their share of what all cost; of seconds, the slowest of so many.
std::vector<double> VoteCosts(const Match& match, size_t unit) {
  std::vector<double> costs;
  const bool side_by_side = SideBySide(unit);
  for (size_t i = 0; i < match.of_curve.size(); ++i) {
    const size_t v = match.of_votes[i];
    const double all = match.curve->costs[match.of_curve[i]][unit];
    for (const size_t size : match.sizes) {
      if (side_by_side) {
        costs.push_back(v < match.votes->seconds.size() ? stats::MeanLargest(match.votes->seconds[v], size).value_or(0)
                                                        : 0);
      } else {
        costs.push_back(all * static_cast<double>(size) / static_cast<double>(match.votes->items[v].total()));
      }
    }
  }
  return costs;
}

// The votes that every question has; 0 where they differ.
uint64_t VotesOfEach(const Match& match) {
  const uint64_t first = match.votes->items[match.of_votes[0]].total();
  for (const size_t v : match.of_votes) {
    if (match.votes->items[v].total() != first) return 0;
  }
  return first;
}

std::string_view RangeName(stats::MatchRange range) {
  return range == stats::MatchRange::kInside ? "inside" : range == stats::MatchRange::kBelow ? "below" : "above";
}

std::string How(const std::string& arm, const std::string& against, const char* unit,
                const stats::MatchedDifference& m) {
  switch (m.range) {
    case stats::MatchRange::kInside:
      return fmt::format("{} costs {:.4g} {} per question, as {:.3g} answers of {} do", arm, m.cost, unit, *m.votes,
                         against);
    case stats::MatchRange::kBelow:
      return fmt::format("{} costs {:.4g} {} per question, less than one answer of {} does ({:.4g}); out of range", arm,
                         m.cost, unit, against, m.least);
    case stats::MatchRange::kAbove:
      return fmt::format(
          "{} costs {:.4g} {} per question, more than all answers of {} that there are ({:.4g}); out of range", arm,
          m.cost, unit, against, m.most);
  }
  return "";
}

void AddMatch(const std::string& name, const std::string& against, const Match& match, const Declaration& declaration,
              stats::DrawCache* draws, Json* out) {
  std::vector<double> scores;
  for (const size_t i : match.of_arm) scores.push_back(match.arm->scores[i]);
  const uint64_t each = VotesOfEach(match);
  std::vector<double> shares;
  for (const size_t size : match.sizes) shares.push_back(static_cast<double>(size) / static_cast<double>(each));
  std::vector<std::vector<double>> arm_costs, vote_costs;
  std::vector<size_t> units;
  for (size_t u = 0; u < std::size(kUnits); ++u) {
    if (*kUnits[u].name == 0) continue;
    units.push_back(u);
    std::vector<double>&costs = arm_costs.emplace_back(), &votes = vote_costs.emplace_back();
    for (const size_t i : match.of_arm) costs.push_back(match.arm->costs[i][u]);
    if (each == 0 || SideBySide(u)) {
      votes = VoteCosts(match, u);
    } else {
      for (const size_t i : match.of_curve) votes.push_back(match.curve->costs[i][u]);
    }
  }
  std::vector<stats::CostInput> costs;
  for (size_t i = 0; i < units.size(); ++i) {
    const bool in_full = each == 0 || SideBySide(units[i]);
    costs.push_back(in_full ? stats::CostInput{.arm = arm_costs[i], .votes = vote_costs[i]}
                            : stats::CostInput{.arm = arm_costs[i], .whole = vote_costs[i], .shares = shares});
  }
  const auto matches = stats::CompareAtCosts({scores, match.accuracies, costs, match.clusters}, match.sizes,
                                             {.seed = declaration.seed, .draws = draws});
  for (size_t i = 0; i < units.size(); ++i) {
    const auto& m = matches[i];
    const size_t u = units[i];
    if (!m) continue;
    const bool inside = m->range == stats::MatchRange::kInside;
    out->push_back({{"arm", name},
                    {"against", against},
                    {"unit", kUnits[u].name},
                    {"primary", declaration.match == kUnits[u].name},
                    {"n", scores.size()},
                    {"cost", m->cost},
                    {"curve_cost", {m->least, m->most}},
                    {"range", RangeName(m->range)},
                    {"votes", inside ? Json(*m->votes) : Json()},
                    {"accuracy", inside ? Json(*m->accuracy) : Json()},
                    {"difference", inside ? Json(m->difference.estimate) : Json()},
                    {"se", inside && m->difference.se ? Json(*m->difference.se) : Json()},
                    {"ci95", OrNull(m->difference.percentile)},
                    {"bca95", OrNull(m->difference.bca)},
                    {"replicates", m->difference.defined},
                    {"how", How(name, against, kUnits[u].name, *m)}});
  }
}

// Arms that belong together: baselines' curves, then declared contrasts with the votes of one member.
std::vector<std::pair<std::string, std::string>> Pairs(const Declaration& declaration,
                                                       std::span<const ArmVotes> votes) {
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto add = [&](const std::string& arm, const std::string& curve) {
    const std::pair pair{arm, curve};
    if (arm != curve && std::find(pairs.begin(), pairs.end(), pair) == pairs.end()) pairs.push_back(pair);
  };
  for (const BaselineSpec& baseline : declaration.baselines) {
    if (baseline.kind.ends_with("_curve") && !baseline.arm.empty()) add(baseline.of, baseline.arm);
  }
  for (const ContrastSpec& contrast : declaration.contrasts) {
    for (const ArmVotes& v : votes) {
      if (v.one_member && v.arm == contrast.b) add(contrast.a, contrast.b);
    }
  }
  return pairs;
}

// Arms whose every item costs something in the unit, on the items that all of them have.
void AddFrontier(const std::map<std::string, Items>& arms, size_t unit, uint64_t seed, stats::DrawCache* draws,
                 std::map<std::string, std::pair<Json, Json>>* out) {
  std::vector<const std::string*> names;
  std::vector<const Items*> taken;
  for (const auto& [name, arm] : arms) {
    double sum = 0;
    for (const auto& cost : arm.costs) sum += cost[unit];
    if (sum > 0) names.push_back(&name), taken.push_back(&arm);
  }
  if (taken.size() < 2) return;
  std::vector<size_t> first;
  for (size_t i = 0; i < taken[0]->ids.size(); ++i) {
    const bool all = std::all_of(taken.begin(), taken.end(),
                                 [&](const Items* arm) { return arm->index.contains(taken[0]->ids[i]); });
    if (all) first.push_back(i);
  }
  if (first.size() < 2) return;
  std::vector<double> scores, costs;
  std::vector<stats::CurvePoint> points;
  for (const Items* arm : taken) {
    stats::CurvePoint point;
    for (const size_t i : first) {
      const size_t at = arm->index.at(taken[0]->ids[i]);
      scores.push_back(arm->scores[at]);
      costs.push_back(arm->costs[at][unit]);
      point.accuracy += scores.back() / static_cast<double>(first.size());
      point.cost += costs.back() / static_cast<double>(first.size());
    }
    points.push_back(point);
  }
  const auto on = stats::OnFrontier(points);
  const auto probability = stats::FrontierProbability(scores, costs, taken.size(), Clusters(*taken[0], first),
                                                      {.seed = seed, .draws = draws});
  for (size_t a = 0; a < taken.size(); ++a) {
    (*out)[*names[a]].first[kUnits[unit].field] = on[a] != 0;
    if (!probability.empty()) (*out)[*names[a]].second[kUnits[unit].field] = probability[a];
  }
}

}  // namespace

void AddMatched(const Declaration& declaration, std::span<const Outcome> rows, std::span<const ArmVotes> votes,
                Json* summary) {
  const std::map<std::string, Items> arms = ByArm(rows);
  stats::DrawCache draws;
  Tables tables;
  Json& matched = (*summary)["matched"] = Json::array();
  for (const auto& pair : Pairs(declaration, votes)) {
    const std::string &name = pair.first, &against = pair.second;
    const auto arm = arms.find(name), curve = arms.find(against);
    const auto v = std::find_if(votes.begin(), votes.end(), [&](const ArmVotes& one) { return one.arm == against; });
    if (arm == arms.end() || curve == arms.end() || v == votes.end()) continue;
    if (const auto match = MakeMatch(arm->second, curve->second, *v, &tables)) {
      AddMatch(name, against, *match, declaration, &draws, &matched);
    }
  }
  std::map<std::string, std::pair<Json, Json>> frontier;
  for (size_t u = 0; u < std::size(kUnits); ++u) {
    if (*kUnits[u].field != 0) AddFrontier(arms, u, declaration.seed, &draws, &frontier);
  }
  Json& list = (*summary)["frontier"] = Json::array();
  for (const Json& arm : (*summary)["arms"]) {
    const auto it = frontier.find(arm["name"].get<std::string>());
    if (it == frontier.end()) continue;
    list.push_back({{"arm", it->first}, {"on", it->second.first}, {"probability", it->second.second}});
  }
}

}  // namespace conclave::experiment
