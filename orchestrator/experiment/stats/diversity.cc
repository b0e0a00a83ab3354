// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/stats/diversity.h"

#include <cmath>

#include "common/check.h"
#include "orchestrator/experiment/stats/votes.h"

namespace conclave::stats {
namespace {

void FinishPair(PairDiversity& pair, size_t questions, bool answers_known) {
  const double n11 = static_cast<double>(pair.both);
  const double n10 = static_cast<double>(pair.a_only);
  const double n01 = static_cast<double>(pair.b_only);
  const double n00 = static_cast<double>(pair.neither);
  if (questions > 0) {
    pair.disagreement = (n10 + n01) / static_cast<double>(questions);
    pair.double_fault = n00 / static_cast<double>(questions);
  }
  const double margins = (n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00);
  const double determinant = n11 * n00 - n01 * n10;
  if (margins > 0) pair.phi = determinant / std::sqrt(margins);
  if (const double q = n11 * n00 + n01 * n10; q > 0) pair.yule_q = determinant / q;
  if (answers_known && pair.neither > 0) pair.same_wrong = static_cast<double>(pair.same_wrong_count) / n00;
}

PairDiversity ComparePair(const GroupOutcomes& outcomes, size_t a, size_t b) {
  PairDiversity pair;
  for (size_t i = 0; i < outcomes.questions(); ++i) {
    const size_t row = i * outcomes.members;
    const bool right_a = outcomes.correct[row + a] != 0;
    const bool right_b = outcomes.correct[row + b] != 0;
    if (right_a) {
      ++(right_b ? pair.both : pair.a_only);
    } else if (right_b) {
      ++pair.b_only;
    } else {
      ++pair.neither;
      if (outcomes.answers.empty()) continue;
      const int32_t answer = outcomes.answers[row + a];
      if (answer >= 0 && answer == outcomes.answers[row + b]) ++pair.same_wrong_count;
    }
  }
  FinishPair(pair, outcomes.questions(), !outcomes.answers.empty());
  return pair;
}

}  // namespace

size_t PairIndex(size_t members, size_t a, size_t b) {
  CONCLAVE_CHECK(a < b && b < members);
  return a * (2 * members - a - 1) / 2 + (b - a - 1);
}

GroupDiversity Diversity(const GroupOutcomes& outcomes) {
  CONCLAVE_CHECK(outcomes.members >= 1 && outcomes.correct.size() % outcomes.members == 0);
  CONCLAVE_CHECK(outcomes.answers.empty() || outcomes.answers.size() == outcomes.correct.size());
  GroupDiversity group;
  group.members = outcomes.members;
  group.questions = outcomes.questions();
  const double n = static_cast<double>(group.questions);
  group.accuracy.assign(group.members, 0);
  size_t all_wrong = 0;
  for (size_t i = 0; i < group.questions; ++i) {
    bool any = false;
    for (size_t m = 0; m < group.members; ++m) {
      if (outcomes.correct[i * group.members + m] == 0) continue;
      any = true;
      group.accuracy[m] += 1;
    }
    if (!any) ++all_wrong;
  }
  if (group.questions > 0) {
    for (double& accuracy : group.accuracy) accuracy /= n;
    group.all_wrong = static_cast<double>(all_wrong) / n;
    group.oracle = 1 - group.all_wrong;
    group.all_wrong_upper95 = ClopperPearson(all_wrong, group.questions)->hi;
  }
  double phi_sum = 0;
  size_t phi_count = 0;
  size_t both_wrong = 0;
  size_t same_wrong = 0;
  for (size_t a = 0; a < group.members; ++a) {
    for (size_t b = a + 1; b < group.members; ++b) {
      const PairDiversity& pair = group.pairs.emplace_back(ComparePair(outcomes, a, b));
      if (pair.phi) phi_sum += *pair.phi, ++phi_count;
      both_wrong += pair.neither;
      same_wrong += pair.same_wrong_count;
    }
  }
  if (phi_count > 0) {
    group.mean_error_correlation = phi_sum / static_cast<double>(phi_count);
    group.effective_votes = EffectiveVotes(group.members, *group.mean_error_correlation);
  }
  if (!outcomes.answers.empty() && both_wrong > 0) {
    group.same_wrong = static_cast<double>(same_wrong) / static_cast<double>(both_wrong);
  }
  return group;
}

}  // namespace conclave::stats
