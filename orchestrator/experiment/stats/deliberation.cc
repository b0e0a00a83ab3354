// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/deliberation.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "common/check.h"
#include "orchestrator/experiment/stats/hypothesis.h"

namespace conclave::stats {
namespace {

std::optional<double> Share(size_t part, size_t whole) {
  if (whole == 0) return std::nullopt;
  return static_cast<double>(part) / static_cast<double>(whole);
}

double VarianceOf(std::span<const double> x) {
  double mean = 0;
  for (const double v : x) mean += v / static_cast<double>(x.size());
  double sum = 0;
  for (const double v : x) sum += (v - mean) * (v - mean);
  return sum / static_cast<double>(x.size() - 1);
}

// AUC and its standard error from placements: of every right one the share of wrong ones below it, and the reverse.
void AddArea(std::span<const Judgement> sorted, VerifierQuality* quality) {
  const double right = static_cast<double>(quality->right);
  const double wrong = static_cast<double>(quality->wrong);
  std::vector<double> of_right, of_wrong;
  size_t right_below = 0;
  size_t wrong_below = 0;
  for (size_t begin = 0; begin < sorted.size();) {
    size_t end = begin;
    size_t right_here = 0;
    while (end < sorted.size() && sorted[end].score == sorted[begin].score) right_here += sorted[end++].right ? 1 : 0;
    const size_t wrong_here = end - begin - right_here;
    const double below = static_cast<double>(wrong_below) + static_cast<double>(wrong_here) / 2;
    const double above = right - static_cast<double>(right_below) - static_cast<double>(right_here) / 2;
    of_right.insert(of_right.end(), right_here, below / wrong);
    of_wrong.insert(of_wrong.end(), wrong_here, above / right);
    right_below += right_here;
    wrong_below += wrong_here;
    begin = end;
  }
  double sum = 0;
  for (const double v : of_right) sum += v;
  quality->auc = sum / right;
  if (of_right.size() < 2 || of_wrong.size() < 2) return;
  quality->auc_se = std::sqrt(VarianceOf(of_right) / right + VarianceOf(of_wrong) / wrong);
}

}  // namespace

Flips CountFlips(std::span<const Revision> revisions) {
  Flips flips;
  size_t stood_against = 0;
  size_t adopted = 0;
  for (const Revision& r : revisions) {
    if (r.right_before) {
      ++(r.right_after ? flips.stayed_right : flips.right_to_wrong);
    } else {
      ++(r.right_after ? flips.wrong_to_right : flips.stayed_wrong);
    }
    if (!r.adopted_majority) continue;
    ++stood_against;
    adopted += *r.adopted_majority ? 1 : 0;
  }
  flips.kept = Share(flips.stayed_right, flips.stayed_right + flips.right_to_wrong);
  flips.corrected = Share(flips.wrong_to_right, flips.wrong_to_right + flips.stayed_wrong);
  flips.conformity = Share(adopted, stood_against);
  if (revisions.empty()) return flips;
  flips.net = (static_cast<double>(flips.wrong_to_right) - static_cast<double>(flips.right_to_wrong)) /
              static_cast<double>(revisions.size());
  flips.p_mid = McNemar(flips.wrong_to_right, flips.right_to_wrong).p_mid;
  return flips;
}

VerifierQuality JudgeTheJudge(std::span<const Judgement> judgements) {
  VerifierQuality quality;
  size_t accepted_right = 0;
  size_t accepted_wrong = 0;
  for (const Judgement& j : judgements) {
    ++(j.right ? quality.right : quality.wrong);
    if (j.accepted) ++(j.right ? accepted_right : accepted_wrong);
  }
  quality.true_positive = Share(accepted_right, quality.right);
  quality.false_positive = Share(accepted_wrong, quality.wrong);
  quality.true_positive95 = Wilson(accepted_right, quality.right);
  quality.false_positive95 = Wilson(accepted_wrong, quality.wrong);
  if (quality.right == 0 || quality.wrong == 0) return quality;
  std::vector<Judgement> sorted(judgements.begin(), judgements.end());
  std::sort(sorted.begin(), sorted.end(), [](const Judgement& a, const Judgement& b) { return a.score < b.score; });
  AddArea(sorted, &quality);
  quality.roc.push_back({sorted.back().score, 0, 0});
  size_t right = 0;
  size_t wrong = 0;
  for (size_t i = sorted.size(); i-- > 0;) {
    ++(sorted[i].right ? right : wrong);
    if (i > 0 && sorted[i - 1].score == sorted[i].score) continue;
    quality.roc.push_back({sorted[i].score, *Share(right, quality.right), *Share(wrong, quality.wrong)});
  }
  return quality;
}

std::vector<double> VoteScores(const GroupOutcomes& group, std::span<const uint8_t> use) {
  CONCLAVE_CHECK(use.size() == group.members && group.answers.size() == group.correct.size());
  std::vector<double> scores;
  struct Class {
    size_t votes = 0;
    bool right = false;
  };
  std::map<int32_t, Class> classes;
  for (size_t i = 0; i < group.questions(); ++i) {
    classes.clear();
    for (size_t m = 0; m < group.members; ++m) {
      const int32_t answer = group.answers[i * group.members + m];
      if (use[m] == 0 || answer < 0) continue;
      Class& c = classes[answer];
      ++c.votes;
      c.right = group.correct[i * group.members + m] != 0;
    }
    size_t most = 0;
    size_t tied = 0;
    size_t right = 0;
    for (const auto& [answer, c] : classes) {
      if (c.votes > most) most = c.votes, tied = right = 0;
      if (c.votes < most) continue;
      ++tied;
      right += c.right ? 1 : 0;
    }
    scores.push_back(tied == 0 ? 0 : static_cast<double>(right) / static_cast<double>(tied));
  }
  return scores;
}

std::vector<Estimate> MemberValues(const GroupOutcomes& group, std::span<const uint32_t> clusters) {
  std::vector<uint8_t> use(group.members, 1);
  const std::vector<double> all = VoteScores(group, use);
  std::vector<Estimate> values;
  for (size_t m = 0; m < group.members; ++m) {
    use[m] = 0;
    values.push_back(Within(Difference(all, VoteScores(group, use), clusters).difference, -1, 1));
    use[m] = 1;
  }
  return values;
}

double IndependentMajority(std::span<const double> accuracies) {
  std::vector<double> chance = {1};  // chance[j]: j of those so far are right
  for (const double p : accuracies) {
    chance.push_back(0);
    for (size_t j = chance.size() - 1; j > 0; --j) chance[j] = chance[j] * (1 - p) + chance[j - 1] * p;
    chance[0] *= 1 - p;
  }
  const size_t n = accuracies.size();
  double sum = 0;
  for (size_t j = 0; j <= n; ++j) sum += 2 * j > n ? chance[j] : 2 * j == n ? chance[j] / 2 : 0;
  return sum;
}

std::optional<NoiseBudget> BudgetNoise(const NoiseSplit& split, size_t samples_a, size_t samples_b, size_t n) {
  CONCLAVE_CHECK(samples_a >= 1 && samples_b >= 1 && n >= 1);
  const double sampling =
      split.sampling_a / static_cast<double>(samples_a) + split.sampling_b / static_cast<double>(samples_b);
  const double each = split.between + sampling;
  if (!(each > 0)) return std::nullopt;
  NoiseBudget budget;
  budget.variance = each / static_cast<double>(n);
  budget.sampling_share = sampling / each;
  budget.between_share = split.between / each;
  budget.mde80 = MinimumDetectable(each, n);
  budget.mde80_endless = MinimumDetectable(split.between, n);
  if (split.between > 0) budget.samples_enough = 4 * (split.sampling_a + split.sampling_b) / split.between;
  return budget;
}

}  // namespace conclave::stats
