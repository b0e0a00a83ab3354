// SPDX-License-Identifier: Apache-2.0
// One arm's accuracy, and the paired difference of two arms on the items both answered.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/outcome.h"
#include "orchestrator/experiment/stats/estimate.h"

namespace conclave::experiment {

// The outcomes of one arm, an item's replicates averaged. Items in order of first appearance.
struct ArmScores {
  std::string name;
  std::vector<std::string> items;
  std::vector<double> scores;              // mean over replicates of 1 for correct, else 0
  std::vector<std::string> cluster_names;  // the item itself where it has no cluster
  bool clustered = false;                  // some cluster holds two items
  int32_t replicates = 1;                  // the most of any item
  std::array<int64_t, kOutcomeKinds> kinds = {};
  Outcome mean_cost;  // calls .. seconds: means per deliberation; estimated: any is
};

// Rows of several arms, split by arm in order of first appearance.
std::vector<ArmScores> SplitByArm(std::span<const Outcome> rows);

stats::Estimate Accuracy(const ArmScores& arm);

struct Contrast {
  std::string a, b;
  size_t n = 0;                // items that both have
  size_t unmatched = 0;        // items that only one has
  stats::Estimate difference;  // a - b; clustered where there are clusters
  std::optional<double> correlation;
  // One replicate each and no clusters: McNemar's table and p-values.
  std::optional<int64_t> a_only, b_only;
  std::optional<double> mcnemar_exact, mcnemar_mid_p;
  std::optional<double> sign_flip_p;  // always; the p-value where McNemar's does not apply
  double margin = 0;
  std::optional<bool> equivalent, noninferior;
  std::optional<double> mde80;
  // McNemar's exact p, else the sign-flip p.
  std::optional<double> p() const { return mcnemar_exact ? mcnemar_exact : sign_flip_p; }
};

// INVALID_ARGUMENT when the arms share no item. `seed` is for the sign-flip test. REQUIRES: margin > 0.
absl::StatusOr<Contrast> Compare(const ArmScores& a, const ArmScores& b, double margin, uint64_t seed);

}  // namespace conclave::experiment
