// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/status.h"
#include "orchestrator/experiment/or_null.h"
#include "orchestrator/experiment/stats/curve.h"
#include "orchestrator/experiment/stats/deliberation.h"
#include "orchestrator/experiment/stats/diversity.h"
#include "orchestrator/experiment/stats/hypothesis.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

Json EstimateJson(const stats::Estimate& e) { return {{"mean", e.mean}, {"se", OrNull(e.se)}, {"ci95", OrNull(e.ci)}}; }

Json StrataJson(const std::optional<stats::StratifiedEstimate>& e) {
  if (!e) return Json();
  return {{"n", e->strata}, {"micro", EstimateJson(e->micro)}, {"macro", EstimateJson(e->macro)}};
}

Json NoiseJson(const Contrast& c) {
  if (!c.noise) return Json();
  const auto budget =
      stats::BudgetNoise(*c.noise, static_cast<size_t>(c.replicates_a), static_cast<size_t>(c.replicates_b), c.n);
  if (!budget) return Json();
  return {{"sampling_a", c.noise->sampling_a},
          {"sampling_b", c.noise->sampling_b},
          {"between", c.noise->between},
          {"sampling_share", budget->sampling_share},
          {"between_share", budget->between_share},
          {"mde80_endless_samples", budget->mde80_endless},
          {"samples_enough", OrNull(budget->samples_enough)}};
}

Json ClusteringJson(const ArmScores& arm) {
  const std::vector<uint32_t> clusters = ClusterNumbers(arm);
  return {{"design_effect", OrNull(stats::DesignEffect(arm.scores, clusters))},
          {"intraclass_correlation", OrNull(stats::IntraclassCorrelation(arm.scores, clusters))}};
}

Json ArmJson(const ArmScores& arm) {
  const stats::Estimate accuracy = Accuracy(arm);
  Json outcomes;
  for (int kind = 0; kind < kOutcomeKinds; ++kind) {
    outcomes[std::string(grade::OutcomeName(static_cast<OutcomeKind>(kind)))] = arm.kinds[static_cast<size_t>(kind)];
  }
  const Outcome& cost = arm.mean_cost;
  Json json = {{"name", arm.name},          {"n", arm.items.size()},       {"accuracy", accuracy.mean},
               {"se", OrNull(accuracy.se)}, {"ci95", OrNull(accuracy.ci)}, {"clusters", accuracy.clusters}};
  json["rate95"] = OrNull(AccuracyInterval(arm));
  if (arm.replicates == 1 && !arm.clustered) json["wilson95"] = json["rate95"];
  if (const auto strata = AccuracyByStratum(arm)) json["strata"] = StrataJson(strata);
  if (arm.clustered) json["clustering"] = ClusteringJson(arm);
  json["outcomes"] = std::move(outcomes);
  json["cost"] = {{"calls", cost.calls},
                  {"prompt_tokens", cost.prompt_tokens},
                  {"cached_tokens", cost.cached_tokens},
                  {"output_tokens", cost.output_tokens},
                  {"flops", cost.flops},
                  {"weight_bytes", cost.weight_bytes},
                  {"kv_bytes", cost.kv_bytes},
                  {"lost_calls", cost.lost_calls},
                  {"seconds", cost.seconds},
                  {"estimated", cost.estimated}};
  if (cost.usd > 0) json["cost"]["usd"] = cost.usd;
  return json;
}

// The plain vote of the group, what is lost between it and the oracle, and what correlated errors cost it: the vote
// that independent members as good as these would have, all of it and in the mean over pairs.
void AddGroupVote(const stats::GroupOutcomes& outcomes, const stats::GroupDiversity& d, Json* json) {
  const std::vector<uint8_t> use(outcomes.members, 1);
  const stats::Estimate vote = stats::Within(stats::Mean(stats::VoteScores(outcomes, use)), 0, 1);
  const double independent = stats::IndependentMajority(d.accuracy);
  (*json)["vote"] = EstimateJson(vote);
  (*json)["selection_gap"] = d.oracle - vote.mean;
  (*json)["independent_majority"] = independent;
  (*json)["independence_deficit"] = independent - vote.mean;
}

Json GroupJson(const GroupAnswers& group) {
  const stats::GroupOutcomes outcomes{group.members.size(), group.correct, group.answers};
  const stats::GroupDiversity d = stats::Diversity(outcomes);
  Json json = {{"oracle", d.oracle},
               {"all_wrong", d.all_wrong},
               {"all_wrong_upper95", OrNull(d.all_wrong_upper95)},
               {"mean_error_correlation", OrNull(d.mean_error_correlation)},
               {"effective_votes", OrNull(d.effective_votes)},
               {"same_wrong", OrNull(d.same_wrong)},
               {"members", Json::array()},
               {"pairs", Json::array()}};
  AddGroupVote(outcomes, d, &json);
  const size_t n = group.members.size();
  const std::vector<stats::Estimate> values = stats::MemberValues(outcomes);
  for (size_t m = 0; m < n; ++m) {
    json["members"].push_back(
        {{"name", group.members[m]}, {"accuracy", d.accuracy[m]}, {"value", EstimateJson(values[m])}});
  }
  for (size_t a = 0; a < n; ++a) {
    for (size_t b = a + 1; b < n; ++b) {
      const stats::PairDiversity& pair = d.pairs[stats::PairIndex(n, a, b)];
      json["pairs"].push_back({{"a", group.members[a]},
                               {"b", group.members[b]},
                               {"both_right", pair.both},
                               {"a_only", pair.a_only},
                               {"b_only", pair.b_only},
                               {"both_wrong", pair.neither},
                               {"phi", OrNull(pair.phi)},
                               {"yule_q", OrNull(pair.yule_q)},
                               {"same_wrong", OrNull(pair.same_wrong)},
                               {"double_fault", pair.double_fault}});
    }
  }
  return json;
}

// maj@k for k = 1, 2, .. up to what every item can serve.
Json CurveJson(const ArmVotes& votes) {
  size_t most = stats::kVotersMax;
  for (const stats::VoteCounts& item : votes.items) most = std::min<size_t>(most, item.total());
  const std::vector<size_t> sizes = CurveSizes(most);
  Json points = Json::array();
  const std::vector<stats::Estimate> curve = stats::VoteCurve(votes.items, sizes);
  for (size_t i = 0; i < sizes.size(); ++i) {
    const double k = static_cast<double>(sizes[i]);
    points.push_back({{"samples", sizes[i]},
                      {"cost", votes.flops_per_vote > 0 ? Json(k * votes.flops_per_vote) : Json()},
                      {"accuracy", curve[i].mean},
                      {"se", OrNull(curve[i].se)},
                      {"ci95", OrNull(stats::Within(curve[i], 0, 1).ci)}});
  }
  return {{"arm", votes.arm}, {"points", std::move(points)}};
}

// The mean height of each curve over the costs that all curves cover, in log cost: "area", null where they share none.
void AddAreas(Json* curves) {
  std::vector<std::vector<stats::CurvePoint>> all;
  double lo = 0;
  double hi = std::numeric_limits<double>::infinity();
  for (const Json& curve : *curves) {
    auto& points = all.emplace_back();
    for (const Json& point : curve["points"]) {
      if (point["cost"].is_number()) points.push_back({point["cost"], point["accuracy"]});
    }
    if (points.empty()) continue;
    lo = std::max(lo, points.front().cost);
    hi = std::min(hi, points.back().cost);
  }
  for (size_t c = 0; c < all.size(); ++c) {
    const auto area = all[c].empty() ? std::nullopt : stats::AreaUnderCurve(all[c], lo, hi);
    (*curves)[c]["area"] = area ? Json{{"from", lo}, {"to", hi}, {"accuracy", *area}} : Json();
  }
}

// An arm whose calls were lost measures something other than its graph.
void AddLosses(const std::vector<ArmScores>& arms, Json* warnings) {
  for (const ArmScores& arm : arms) {
    const double lost = arm.mean_cost.lost_calls, calls = arm.mean_cost.calls;
    if (lost <= 0) continue;
    warnings->push_back(
        fmt::format("{}: {:.1f} % of its calls were lost, {:.2g} per question; transcripts.jsonl says why (\"lost\")",
                    arm.name, calls > 0 ? 100 * lost / calls : 100.0, lost));
  }
}

void AddWarnings(const std::vector<Contrast>& contrasts, const std::vector<ContrastSpec>& specs, Json* warnings) {
  for (size_t i = 0; i < contrasts.size(); ++i) {
    const Contrast& c = contrasts[i];
    if (c.unmatched > 0) {
      warnings->push_back(fmt::format("{} − {}: {} items were answered by only one of the two and are left out", c.a,
                                      c.b, c.unmatched));
    }
    if (specs[i].primary && c.mde80 && *c.mde80 > specs[i].margin) {
      warnings->push_back(fmt::format(
          "With {} items the primary contrast finds a true difference of {:.1f} points with 80 % power: more than the "
          "declared margin of {:.1f}. A difference that was not found may still be there.",
          c.n, 100 * *c.mde80, 100 * specs[i].margin));
    }
    if (c.difference.clusters < stats::kFewClusters) {
      warnings->push_back(fmt::format("{} − {}: only {} independent clusters; intervals are unreliable below {}", c.a,
                                      c.b, c.difference.clusters, stats::kFewClusters));
    }
  }
}

// What was declared is one family; arms against the baselines that the tool added are another.
std::vector<double> HolmByFamily(const std::vector<ContrastSpec>& specs, const std::vector<double>& p) {
  std::vector<double> out(p.size());
  for (const bool generated : {false, true}) {
    std::vector<size_t> places;
    std::vector<double> family;
    for (size_t i = 0; i < p.size(); ++i) {
      if (specs[i].generated == generated) places.push_back(i), family.push_back(p[i]);
    }
    const std::vector<double> holm = stats::Holm(family);
    for (size_t i = 0; i < places.size(); ++i) out[places[i]] = holm[i];
  }
  return out;
}

// Right where any of the arm's own votes is; null without votes.
Json OracleJson(const std::string& arm, std::span<const ArmVotes> votes) {
  const auto it = std::find_if(votes.begin(), votes.end(), [&](const ArmVotes& v) { return v.arm == arm; });
  if (it == votes.end() || it->items.empty()) return Json();
  const auto right = static_cast<size_t>(
      std::count_if(it->items.begin(), it->items.end(), [](const stats::VoteCounts& v) { return v.correct > 0; }));
  return {{"n", it->items.size()},
          {"accuracy", static_cast<double>(right) / static_cast<double>(it->items.size())},
          {"ci95", OrNull(stats::Wilson(right, it->items.size()))}};
}

// Which arms were added, for what, and what could not be.
void AddBaselines(const Declaration& declaration, std::span<const ArmVotes> votes, Json* summary) {
  Json list = Json::array();
  for (const BaselineSpec& baseline : declaration.baselines) {
    Json entry = {{"of", baseline.of},
                  {"kind", baseline.kind},
                  {"subject", baseline.subject.empty() ? Json() : Json(baseline.subject)},
                  {"arm", baseline.arm.empty() ? Json() : Json(baseline.arm)},
                  {"why_not", baseline.why_not.empty() ? Json() : Json(baseline.why_not)}};
    if (baseline.kind == "oracle") entry["computed"] = OracleJson(baseline.of, votes);
    list.push_back(std::move(entry));
  }
  (*summary)["baselines"] = {{"added", declaration.baselines_added}, {"list", std::move(list)}};
  (*summary)["design"]["match"] = declaration.match;
  const auto& generated = declaration.generated_arms;
  for (Json& arm : (*summary)["arms"]) {
    arm["generated"] = std::find(generated.begin(), generated.end(), arm["name"]) != generated.end();
  }
  if (!declaration.baselines_added) {
    (*summary)["warnings"].push_back(
        "No baselines were added to the arms declared: --no-baselines, or baselines: false");
  }
}

}  // namespace

std::vector<size_t> CurveSizes(size_t most) {
  std::vector<size_t> sizes;
  for (size_t k = 1; k <= most; k = std::max(k + 1, k + k * 4 / kCurvePointsMax)) sizes.push_back(k);
  if (!sizes.empty() && sizes.back() != most) sizes.push_back(most);
  return sizes;
}

Json ToJson(const Contrast& c) {
  return {{"a", c.a},
          {"b", c.b},
          {"n", c.n},
          {"difference", c.difference.mean},
          {"se", OrNull(c.difference.se)},
          {"ci95", OrNull(c.difference.ci)},
          {"clusters", c.difference.clusters},
          {"correlation", OrNull(c.correlation)},
          {"se_unpaired", OrNull(c.se_unpaired)},
          {"noise", NoiseJson(c)},
          {"a_only", OrNull(c.a_only)},
          {"b_only", OrNull(c.b_only)},
          {"mcnemar_exact", OrNull(c.mcnemar_exact)},
          {"mcnemar_mid_p", OrNull(c.mcnemar_mid_p)},
          {"sign_flip_p", OrNull(c.sign_flip_p)},
          {"sign_flip_mid_p", OrNull(c.sign_flip_mid_p)},
          {"test", c.test()},
          {"p", OrNull(c.p())},
          {"margin", c.margin},
          {"equivalent", OrNull(c.equivalent)},
          {"noninferior", OrNull(c.noninferior)},
          {"mde80", OrNull(c.mde80)}};
}

absl::StatusOr<Json> Summarize(const Declaration& declaration, std::span<const Outcome> rows, const GroupAnswers& group,
                               std::span<const ArmVotes> votes) {
  const std::vector<ArmScores> arms = SplitByArm(rows);
  size_t items = 0;
  for (const ArmScores& arm : arms) items = std::max(items, arm.items.size());
  Json summary = {{"design",
                   {{"name", declaration.name},
                    {"question", declaration.question},
                    {"selection_rule", declaration.selection_rule},
                    {"replicates", declaration.replicates},
                    {"seed", declaration.seed}}},
                  {"benchmark", {{"name", declaration.benchmark}, {"n", items}, {"grader", declaration.grader}}},
                  {"arms", Json::array()},
                  {"contrasts", Json::array()},
                  {"warnings", Json::array()}};
  for (const ArmScores& arm : arms) summary["arms"].push_back(ArmJson(arm));

  const auto find = [&](const std::string& name) {
    return std::find_if(arms.begin(), arms.end(), [&](const ArmScores& arm) { return arm.name == name; });
  };
  std::vector<Contrast> contrasts;
  std::vector<double> p;
  for (const ContrastSpec& spec : declaration.contrasts) {
    const auto a = find(spec.a), b = find(spec.b);
    if (a == arms.end() || b == arms.end()) {
      return InvalidArgument("contrast {} − {}: arm \"{}\" has no outcomes", spec.a, spec.b,
                             a == arms.end() ? spec.a : spec.b);
    }
    ASSIGN_OR_RETURN(Contrast contrast, Compare(*a, *b, spec.margin, declaration.seed));
    p.push_back(contrast.p().value_or(1));
    contrasts.push_back(std::move(contrast));
  }
  const std::vector<double> holm = HolmByFamily(declaration.contrasts, p);
  for (size_t i = 0; i < contrasts.size(); ++i) {
    Json json = ToJson(contrasts[i]);
    json["primary"] = declaration.contrasts[i].primary;
    json["generated"] = declaration.contrasts[i].generated;
    json["p_holm"] = holm[i];
    summary["contrasts"].push_back(std::move(json));
  }
  summary["group"] = group.members.empty() || group.correct.empty() ? Json() : GroupJson(group);
  AddBaselines(declaration, votes, &summary);
  AddLosses(arms, &summary["warnings"]);
  AddWarnings(contrasts, declaration.contrasts, &summary["warnings"]);
  summary["curves"] = Json::array();
  for (const ArmVotes& v : votes) {
    if (!v.items.empty()) summary["curves"].push_back(CurveJson(v));
  }
  AddAreas(&summary["curves"]);
  return summary;
}

}  // namespace conclave::experiment
