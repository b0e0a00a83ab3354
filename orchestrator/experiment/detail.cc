// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/detail.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "orchestrator/experiment/or_null.h"
#include "orchestrator/experiment/stats/bootstrap.h"
#include "orchestrator/experiment/stats/hypothesis.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

Json EstimateJson(const stats::Estimate& e) {
  return {{"difference", e.mean}, {"se", OrNull(e.se)}, {"ci95", e.ci ? Json{e.ci->lo, e.ci->hi} : Json()}};
}

// What one arm did on one question.
struct Question {
  double right = 0;  // replicates
  std::vector<double> samples;
};

struct ArmRows {
  std::unordered_map<std::string, Question> questions;
  std::vector<double> seconds;
  int64_t strict = 0, lenient_only = 0, neither = 0;
  bool has_strict = false;
};

struct Data {
  std::unordered_map<std::string, ArmRows> arms;
  std::vector<std::string> items;                        // in order of first appearance
  std::unordered_map<std::string, std::string> stratum;  // of items that have one
};

Data Arrange(std::span<const Outcome> rows) {
  Data data;
  std::unordered_map<std::string, bool> seen;
  for (const Outcome& row : rows) {
    if (seen.try_emplace(row.id, true).second) {
      data.items.push_back(row.id);
      if (!row.stratum.empty()) data.stratum.emplace(row.id, row.stratum);
    }
    ArmRows& arm = data.arms[row.arm];
    const bool right = row.kind == OutcomeKind::kCorrect;
    arm.questions[row.id].samples.push_back(right ? 1 : 0);
    arm.questions[row.id].right += right ? 1 : 0;
    arm.seconds.push_back(row.seconds);
    if (!row.strict) continue;
    arm.has_strict = true;
    ++(!right ? arm.neither : *row.strict == OutcomeKind::kCorrect ? arm.strict : arm.lenient_only);
  }
  return data;
}

void AddToArms(Data* data, Json* arms) {
  for (Json& json : *arms) {
    ArmRows& arm = data->arms[json["name"].get<std::string>()];
    std::sort(arm.seconds.begin(), arm.seconds.end());
    if (!arm.seconds.empty() && arm.seconds.back() > 0) {
      json["latency"] = {{"p50", stats::SortedQuantile(arm.seconds, 0.5)},
                         {"p95", stats::SortedQuantile(arm.seconds, 0.95)}};
    }
    if (arm.has_strict) {
      json["strict"] = {{"correct", arm.strict}, {"lenient_only", arm.lenient_only}, {"neither", arm.neither}};
    }
  }
}

// Differences per question that both arms answered, and what they come from.
struct Paired {
  std::vector<double> differences;
  std::vector<std::string> items;
  std::vector<double> a, b;             // samples, [n, k]
  size_t samples_a = 0, samples_b = 0;  // 0: not the same everywhere
};

Paired Pair(const Data& data, const std::string& a, const std::string& b) {
  Paired out;
  const auto in_a = data.arms.find(a), in_b = data.arms.find(b);
  if (in_a == data.arms.end() || in_b == data.arms.end()) return out;
  const auto add = [](const Question& q, std::vector<double>* all, size_t* samples, bool first) {
    if (first) *samples = q.samples.size();
    if (*samples != q.samples.size()) *samples = 0;
    all->insert(all->end(), q.samples.begin(), q.samples.end());
    return q.right / static_cast<double>(q.samples.size());
  };
  for (const std::string& item : data.items) {
    const auto qa = in_a->second.questions.find(item), qb = in_b->second.questions.find(item);
    if (qa == in_a->second.questions.end() || qb == in_b->second.questions.end()) continue;
    const bool first = out.items.empty();
    const double pa = add(qa->second, &out.a, &out.samples_a, first);
    out.differences.push_back(pa - add(qb->second, &out.b, &out.samples_b, first));
    out.items.push_back(item);
  }
  return out;
}

void AddStrata(const Data& data, const Paired& paired, uint64_t seed, Json* contrast) {
  std::vector<std::string> names;
  std::unordered_map<std::string, uint32_t> index;
  std::vector<uint32_t> strata;
  std::vector<std::vector<double>> by_stratum;
  for (size_t i = 0; i < paired.items.size(); ++i) {
    const auto it = data.stratum.find(paired.items[i]);
    if (it == data.stratum.end()) return;  // a benchmark either has strata or has none
    const auto [at, fresh] = index.try_emplace(it->second, static_cast<uint32_t>(names.size()));
    if (fresh) names.push_back(it->second), by_stratum.emplace_back();
    strata.push_back(at->second);
    by_stratum[at->second].push_back(paired.differences[i]);
  }
  if (names.size() < 2) return;
  const bool once = paired.samples_a == 1 && paired.samples_b == 1;
  std::vector<double> p;
  Json list = Json::array();
  for (size_t s = 0; s < names.size(); ++s) {
    const std::vector<double>& d = by_stratum[s];
    const auto a_only = static_cast<size_t>(std::count_if(d.begin(), d.end(), [](double v) { return v > 0; }));
    const auto b_only = static_cast<size_t>(std::count_if(d.begin(), d.end(), [](double v) { return v < 0; }));
    p.push_back(once ? stats::McNemar(a_only, b_only).p_mid : stats::SignFlip(d, {}, seed).p);
    Json entry = {{"name", names[s]}, {"n", d.size()}};
    entry.update(EstimateJson(stats::Mean(d)));
    list.push_back(std::move(entry));
  }
  const std::vector<double> adjusted = stats::BenjaminiHochberg(p);
  for (size_t s = 0; s < names.size(); ++s) list[s].update({{"p", p[s]}, {"p_bh", adjusted[s]}});
  const stats::StratifiedEstimate both = stats::StratifiedMean(paired.differences, strata);
  (*contrast)["strata"] = std::move(list);
  (*contrast)["macro"] = EstimateJson(both.macro);
  (*contrast)["micro"] = EstimateJson(both.micro);
}

void AddPower(const Paired& paired, Json* contrast) {
  constexpr double kPoint = 0.01;
  const stats::Estimate mean = stats::Mean(paired.differences);
  if (!mean.se || !(*mean.se > 0)) return;
  const double n = static_cast<double>(mean.n);
  const double variance = *mean.se * *mean.se * n;
  Json power = {{"k_a", paired.samples_a},
                {"k_b", paired.samples_b},
                {"variance", variance},
                {"items_for_1pp", std::ceil(stats::QuestionsNeeded(variance, kPoint))}};
  const auto split = paired.samples_a > 1 && paired.samples_b > 1
                         ? stats::SplitNoise(paired.a, paired.samples_a, paired.b, paired.samples_b)
                         : std::nullopt;
  if (split) {
    power["between"] = split->between;
    power["sampling_a"] = split->sampling_a;
    power["sampling_b"] = split->sampling_b;
    // With K samples each, variance is w² + (s²_a + s²_b) / K; what n questions can bear is n / (questions per unit).
    const double bearable = n / stats::QuestionsNeeded(1, kPoint);
    const double left = bearable - split->between;
    power["samples_for_1pp"] =
        left > 0 ? Json(std::max(1.0, std::ceil((split->sampling_a + split->sampling_b) / left))) : Json();
  }
  (*contrast)["power"] = std::move(power);
}

// The correlation of two votes on one question, given that questions are drawn: pairs within questions about the mean.
std::optional<double> VoteCorrelation(const ArmVotes& votes, double p) {
  if (!(p > 0 && p < 1) || votes.items.empty()) return std::nullopt;
  double pairs = 0, questions = 0;
  for (const stats::VoteCounts& item : votes.items) {
    const double n = static_cast<double>(item.total()), c = item.correct;
    if (n < 2) continue;
    pairs += c * (c - 1) / (n * (n - 1));
    ++questions;
  }
  if (questions == 0) return std::nullopt;
  return (pairs / questions - p * p) / (p * (1 - p));
}

void AddToCurve(const ArmVotes& votes, Json* curve) {
  if ((*curve)["points"].empty()) return;
  const double p = (*curve)["points"][0]["accuracy"].get<double>();
  const auto correlation = VoteCorrelation(votes, p);
  (*curve)["vote_correlation"] = OrNull(correlation);
  for (Json& point : (*curve)["points"]) {
    const auto k = point["samples"].get<size_t>();
    double any = 0, all = 0;
    for (const stats::VoteCounts& item : votes.items) {
      any += stats::PassAtK(item.total(), item.correct, k).value_or(0);
      all += stats::PassAllK(item.total(), item.correct, k).value_or(0);
    }
    const double n = static_cast<double>(votes.items.size());
    point["any_right"] = any / n;
    point["all_right"] = all / n;
    if (p > 0 && p < 1) point["independent"] = stats::CondorcetMajority(k, p);
    if (correlation && *correlation < 1) {
      point["correlated"] = stats::CondorcetMajority(k, p, std::max(0.0, *correlation));
    }
  }
}

}  // namespace

void AddDetail(std::span<const Outcome> rows, const Gatherer& gatherer, Json* summary) {
  Data data = Arrange(rows);
  AddToArms(&data, &(*summary)["arms"]);
  const auto seed = (*summary)["design"]["seed"].get<uint64_t>();
  for (Json& contrast : (*summary)["contrasts"]) {
    const Paired paired = Pair(data, contrast["a"].get<std::string>(), contrast["b"].get<std::string>());
    AddStrata(data, paired, seed, &contrast);
    AddPower(paired, &contrast);
  }
  const std::vector<ArmVotes> votes = gatherer.Votes();
  for (Json& curve : (*summary)["curves"]) {
    const auto name = curve["arm"].get<std::string>();
    for (const ArmVotes& v : votes) {
      if (v.arm == name) AddToCurve(v, &curve);
    }
  }
  (*summary)["flows"] = gatherer.Flows();
}

}  // namespace conclave::experiment
