// SPDX-License-Identifier: Apache-2.0
// When enough votes are in. Pure functions of ballots in their committed order; nothing here depends on who arrived
// first, and only additions, multiplications and divisions are used, so that the same votes stop everywhere at the same
// place. specs/deliberation.md §4.11: adaptive consistency (Aggarwal et al. 2023), early-stopping consistency (Li et
// al. 2024).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "orchestrator/pick/pick.h"

namespace conclave::orchestrator {

// Probability that an answer with `a` votes is the more frequent one beside an answer with `b`, before the rest is
// known: P(p > 1/2) for p ~ Beta(a + 1, b + 1) = sum over j = 0..a of C(a+b+1, j) / 2^(a+b+1). REQUIRES a, b >= 0.
double MajorityConfidence(int64_t a, int64_t b);

// The same for the first of several: P(x1 > x2, .., xk) for x ~ Dirichlet(counts + 1), exact for at most
// kDirichletVotesMax votes; above, its lower bound 1 - sum (1 - MajorityConfidence(first, other)). 1 for one count.
// REQUIRES 1 to kDirichletAnswersMax counts, the largest first.
inline constexpr size_t kDirichletAnswersMax = 5;
inline constexpr int64_t kDirichletVotesMax = 120;
double TopConfidence(std::span<const int64_t> counts);

enum class StopRule { kNever, kBeta, kDirichlet, kWindow };

struct Stopping {
  StopRule rule = StopRule::kNever;
  double confidence = 0.95;  // kBeta, kDirichlet
  int32_t window = 5;        // kWindow
};

// The ballots that decide when no further one is needed: [begin, end) of those so far.
struct Settled {
  size_t begin = 0;
  size_t end = 0;
};

// Whether the vote is settled after exactly these ballots, given that it was not after fewer:
//   kBeta       MajorityConfidence of the two most frequent answers is at least `confidence`; all ballots decide
//   kDirichlet  the same with TopConfidence of the (up to five) most frequent ones
//   kWindow     the last `window` ballots, whose number is a multiple of it, all give one answer; they decide
// A ballot without an answer is nobody's vote and breaks a window.
std::optional<Settled> SettledBy(const Stopping& stopping, std::span<const Ballot> ballots);

}  // namespace conclave::orchestrator
