// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/pick/stopping.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/check.h"

namespace conclave::orchestrator {
namespace {

// P(x1 < every one of `others`) for gamma variables of whole shapes shape1 = a and others: draws of as many equally
// likely kinds, of which the first reaches a before any other kind reaches its own shape:
//   sum over i_j < others[j] of (a - 1 + s)! / ((a - 1)! prod i_j!) / k^(a + s), with s = sum i_j and k kinds.
double FirstIsSmallest(int64_t a, const std::vector<int64_t>& others) {
  std::vector<double> ways = {1};  // by s: sum of 1 / prod i_j!
  for (const int64_t shape : others) {
    std::vector<double> more(ways.size() + static_cast<size_t>(shape) - 1, 0);
    double inverse = 1;
    for (size_t i = 0; i < static_cast<size_t>(shape); ++i) {
      if (i > 0) inverse /= static_cast<double>(i);
      for (size_t s = 0; s < ways.size(); ++s) more[s + i] += ways[s] * inverse;
    }
    ways = std::move(more);
  }
  const double kinds = static_cast<double>(others.size()) + 1;
  double rising = 1;  // (a - 1 + s)! / (a - 1)!
  double power = 1;
  for (int64_t i = 0; i < a; ++i) power /= kinds;
  double sum = 0;
  for (size_t s = 0; s < ways.size(); ++s) {
    if (s > 0) rising *= static_cast<double>(a) - 1 + static_cast<double>(s), power /= kinds;
    sum += rising * ways[s] * power;
  }
  return sum;
}

}  // namespace

double MajorityConfidence(int64_t a, int64_t b) {
  CONCLAVE_CHECK(a >= 0 && b >= 0);
  if (a < b) return 1 - MajorityConfidence(b, a);
  // 1 - sum over j = 0..b of C(n, j) / 2^n, from the largest term down; halvings are spent where they keep it in range.
  const int64_t n = a + b + 1;
  double term = 1;
  int64_t halvings = n;
  for (int64_t i = 1; i <= b; ++i) {
    term *= static_cast<double>(n - b + i) / static_cast<double>(i);
    for (; term > 1 && halvings > 0; --halvings) term *= 0.5;
  }
  term = std::ldexp(term, static_cast<int>(-std::min<int64_t>(halvings, 1 << 20)));
  double tail = 0;
  for (int64_t j = b; j >= 0 && term > 0; --j) {
    tail += term;
    term *= static_cast<double>(j) / static_cast<double>(n - j + 1);
  }
  return 1 - tail;
}

double TopConfidence(std::span<const int64_t> counts) {
  CONCLAVE_CHECK(!counts.empty() && counts.size() <= kDirichletAnswersMax);
  int64_t votes = 0;
  for (const int64_t count : counts) votes += count;
  if (votes > kDirichletVotesMax) {
    double doubt = 0;
    for (const int64_t other : counts.subspan(1)) doubt += 1 - MajorityConfidence(counts[0], other);
    return std::max(0.0, 1 - doubt);
  }
  // The first is the largest: by inclusion and exclusion over those that it may be smaller than.
  const size_t others = counts.size() - 1;
  double sum = 0;
  for (uint32_t set = 0; set < (1U << others); ++set) {
    std::vector<int64_t> larger;
    for (size_t j = 0; j < others; ++j) {
      if ((set >> j & 1U) != 0) larger.push_back(counts[j + 1] + 1);
    }
    sum += (larger.size() % 2 == 0 ? 1 : -1) * FirstIsSmallest(counts[0] + 1, larger);
  }
  return sum;
}

std::optional<Settled> SettledBy(const Stopping& stopping, std::span<const Ballot> ballots) {
  if (ballots.empty()) return std::nullopt;
  switch (stopping.rule) {
    case StopRule::kNever:
      return std::nullopt;
    case StopRule::kWindow: {
      const auto window = static_cast<size_t>(stopping.window);
      if (ballots.size() % window != 0) return std::nullopt;
      const std::span<const Ballot> last = ballots.last(window);
      const bool one = std::all_of(last.begin(), last.end(), [&](const Ballot& ballot) {
        return ballot.has_answer && ballot.answer == last.front().answer;
      });
      if (!one) return std::nullopt;
      return Settled{ballots.size() - window, ballots.size()};
    }
    case StopRule::kBeta:
    case StopRule::kDirichlet:
      break;
  }
  const std::vector<VoteGroup> groups = GroupVotes(ballots);
  if (groups.empty()) return std::nullopt;
  std::vector<int64_t> counts;
  const size_t most = stopping.rule == StopRule::kBeta ? 2 : kDirichletAnswersMax;
  for (const VoteGroup& group : groups) {
    if (counts.size() < most) counts.push_back(group.count);
  }
  // One answer alone is compared with another that nobody has given yet.
  const double confidence =
      counts.size() <= 2 ? MajorityConfidence(counts[0], counts.size() == 2 ? counts[1] : 0) : TopConfidence(counts);
  if (confidence < stopping.confidence) return std::nullopt;
  return Settled{0, ballots.size()};
}

}  // namespace conclave::orchestrator
