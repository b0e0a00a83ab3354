// SPDX-License-Identifier: Apache-2.0
// What deliberating did to answers, and how far its judges can be trusted. Definitions: specs/evaluation.md §2
// ("Deliberation metrics"). Pure functions. What cannot be formed is nullopt, never 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "orchestrator/experiment/stats/diversity.h"
#include "orchestrator/experiment/stats/estimate.h"

namespace conclave::stats {

// One answer before a stage and the answer after it.
struct Revision {
  bool right_before = false;
  bool right_after = false;
  // The answer most writers gave before the stage, ties to none, and whether this answer was and is it. Unset where
  // there is no such answer, or it was the writer's own.
  std::optional<bool> adopted_majority;
  friend bool operator==(const Revision&, const Revision&) = default;
};

struct Flips {
  size_t stayed_right = 0, right_to_wrong = 0, wrong_to_right = 0, stayed_wrong = 0;
  std::optional<double> kept;        // right after, of those right before: 1 - harm
  std::optional<double> corrected;   // right after, of those wrong before
  std::optional<double> conformity;  // adopted the majority, of those that stood against one
  double net = 0;                    // accuracy after - before
  double p_mid = 1;                  // McNemar's mid-p of the two directions; for independent revisions only
};
Flips CountFlips(std::span<const Revision> revisions);

// A judge's score and whether what it judged was right.
struct Judgement {
  double score = 0;
  bool right = false;
  bool accepted = false;  // by the judge's own threshold
};

struct RocPoint {
  double threshold = 0;  // accept at or above it
  double true_positive = 0, false_positive = 0;
};

struct VerifierQuality {
  size_t right = 0, wrong = 0;                                // judged
  std::optional<double> true_positive, false_positive;        // accepted, of the right and of the wrong
  std::optional<Interval> true_positive95, false_positive95;  // Wilson
  std::optional<double> auc;     // P(a right one scores above a wrong one), ties count half (Mann and Whitney 1947)
  std::optional<double> auc_se;  // DeLong, DeLong, Clarke-Pearson 1988
  std::vector<RocPoint> roc;     // thresholds descending, from (0, 0) to (1, 1)
};
// O(n log n).
VerifierQuality JudgeTheJudge(std::span<const Judgement> judgements);

// What a member adds to the plain vote of its group: accuracy of the vote of all minus that of the vote of the others,
// per question, paired. Ties between classes are split equally; ⊥ never wins.
// REQUIRES: group.answers given, and equal classes exactly where answers are equivalent.
std::vector<Estimate> MemberValues(const GroupOutcomes& group, std::span<const uint32_t> clusters = {});

// The chance that the plain vote of those members with use[m] != 0 is right on each question: 1, 0, or a share of a
// tie.
std::vector<double> VoteScores(const GroupOutcomes& group, std::span<const uint8_t> use);

// Of the accuracy that a vote of independent members as good as these would have (Poisson-binomial majority, half of
// ties), what the observed vote misses. Positive: errors are alike. REQUIRES: accuracies in [0, 1].
double IndependentMajority(std::span<const double> accuracies);

// Where the noise of a difference comes from and what would shrink it.
struct NoiseBudget {
  double variance = 0;                   // of the mean difference: (w² + s²_a/K_a + s²_b/K_b) / n
  double sampling_share = 0;             // of it, from sampling answers
  double between_share = 0;              // of it, from the questions asked
  double mde80 = 0;                      // as it is
  double mde80_endless = 0;              // with endlessly many samples: what only more questions can shrink
  std::optional<double> samples_enough;  // K of both arms at which sampling is a fifth of the noise: s²/K = w²/4;
                                         // nullopt where w² = 0
};
// nullopt without any variance. REQUIRES: samples >= 1, n >= 1.
std::optional<NoiseBudget> BudgetNoise(const NoiseSplit& split, size_t samples_a, size_t samples_b, size_t n);

}  // namespace conclave::stats
