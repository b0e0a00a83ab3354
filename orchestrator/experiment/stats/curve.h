// SPDX-License-Identifier: Apache-2.0
// Accuracy against cost: reading a curve at a cost, comparing an arm with a curve at the arm's own cost, and who is on
// the frontier. Formulas: specs/evaluation.md §2 ("Accuracy-vs-compute", "Matched-compute contrast", "Pareto"). Costs
// are in any one unit, positive. Pure functions; random ones take a seed and repeat exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "orchestrator/experiment/stats/bootstrap.h"
#include "orchestrator/experiment/stats/estimate.h"
#include "orchestrator/experiment/stats/votes.h"

namespace conclave::stats {

struct CurvePoint {
  double cost = 0;
  double accuracy = 0;
};

// The curve at `cost`, linear in log cost between its points; nullopt outside of them: nothing is extrapolated.
// REQUIRES: costs ascending and positive.
std::optional<double> ReadCurve(std::span<const CurvePoint> curve, double cost);

// The mean height of the curve over log cost in [lo, hi]: its area, normalised. nullopt where the curve does not cover
// the range or lo >= hi.
std::optional<double> AreaUnderCurve(std::span<const CurvePoint> curve, double lo, double hi);

// The mean of the largest of k of the values, over all subsets of size k: Σ_j x_(j) C(j-1, k-1) / C(N, k). What the
// slowest of k parallel calls takes. nullopt if k is 0 or above the number of values, or these above kVotersMax.
std::optional<double> MeanLargest(std::span<const double> values, size_t k);

// One kind of cost per question: the arm's, and that of so many votes, either in full or, where so many of them cost
// the same share on every question, as what all of them cost and that share.
struct CostInput {
  std::span<const double> arm;          // [n]
  std::span<const double> votes = {};   // [n, sizes]: k times one, or the slowest of k side by side
  std::span<const double> whole = {};   // [n], where `votes` is empty
  std::span<const double> shares = {};  // [sizes]
};

// One arm's score and costs per question beside N votes of another member, of which any number may be taken.
struct MatchInput {
  std::span<const double> scores;      // [n] of the arm
  std::span<const double> accuracies;  // [n, sizes] of so many votes of the other, see MajorityTable
  std::span<const CostInput> costs;
  std::span<const uint32_t> clusters = {};  // as everywhere
};

enum class MatchRange : uint8_t { kInside, kBelow, kAbove };

struct MatchedDifference {
  double cost = 0;                         // C*: the mean cost of the arm
  double least = 0, most = 0;              // the curve's range: mean cost of the fewest and of the most votes
  MatchRange range = MatchRange::kInside;  // where C* lies; outside, nothing below is formed
  std::optional<double> votes;             // as many as cost C*, read off the same scale
  std::optional<double> accuracy;          // of the curve at C*
  // arm - curve at C*; NaN outside. Replicates whose cost left their curve are not `defined`.
  BootstrapResult difference;
};

// At most this many additions per bootstrap; larger data take fewer replicates, at least kMatchReplicatesMin.
inline constexpr size_t kMatchWorkMax = 400'000'000;
inline constexpr size_t kMatchReplicatesMin = 1'000;

// maj@k of every question for every k of `sizes`, [n, sizes] row-major. nullopt where a question cannot serve a size.
std::optional<std::vector<double>> MajorityTable(std::span<const VoteCounts> votes, std::span<const size_t> sizes);

// The arm against the curve maj@k, k in `sizes` (ascending), at the arm's mean cost, in each kind of cost. The
// bootstrap draws whole clusters of questions, the same for all kinds, and reads cost and curve anew in each draw.
// nullopt when there is no question, no size, or a cost that is not positive. REQUIRES: lengths that fit.
std::vector<std::optional<MatchedDifference>> CompareAtCosts(const MatchInput& input, std::span<const size_t> sizes,
                                                             const BootstrapOptions& options = {});

// Which points no other dominates: none has at most the cost and at least the accuracy, one of them strictly. Equal
// points do not dominate each other.
std::vector<uint8_t> OnFrontier(std::span<const CurvePoint> points);

// How often each arm is on the frontier when questions (or whole clusters) are drawn anew. `scores` and `costs` are
// [arms, n], row-major. Work is bounded as in CompareAtCost. Empty below two independent units.
std::vector<double> FrontierProbability(std::span<const double> scores, std::span<const double> costs, size_t arms,
                                        std::span<const uint32_t> clusters = {}, const BootstrapOptions& options = {});

}  // namespace conclave::stats
