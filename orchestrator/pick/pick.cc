// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/pick/pick.h"

#include <algorithm>
#include <map>

#include "common/check.h"

namespace conclave::orchestrator {
namespace {

double Weight(const Ballot& ballot) { return ballot.weight > 0 ? ballot.weight : 0; }

// The winner among groups by one key, larger is better; `groups` in order of count, then first.
template <typename Better>
Picked BestGroup(const std::vector<VoteGroup>& groups, const Better& better) {
  const VoteGroup* best = &groups.front();
  for (const VoteGroup& group : groups) {
    if (better(group, *best) || (!better(*best, group) && group.first < best->first)) best = &group;
  }
  Picked picked{best->first, false};
  for (const VoteGroup& group : groups) picked.tie |= &group != best && !better(*best, group);
  return picked;
}

// Compares ballots by weight, then votes for their answer, then brevity.
class BallotOrder {
 public:
  explicit BallotOrder(const std::vector<VoteGroup>& groups) {
    for (const VoteGroup& group : groups) votes_[group.answer] = group.count;
  }
  bool operator()(const Ballot& a, const Ballot& b) const {
    if (Weight(a) != Weight(b)) return Weight(a) > Weight(b);
    if (Votes(a) != Votes(b)) return Votes(a) > Votes(b);
    return a.output_tokens < b.output_tokens;
  }

 private:
  int32_t Votes(const Ballot& ballot) const { return ballot.has_answer ? votes_.find(ballot.answer)->second : 0; }
  std::map<std::string_view, int32_t> votes_;
};

Picked BestBallot(std::span<const Ballot> ballots, const std::vector<VoteGroup>& groups, bool with_answers) {
  const BallotOrder better(groups);
  Picked picked;
  for (size_t i = 0; i < ballots.size(); ++i) {
    if (with_answers && !ballots[i].has_answer) continue;
    if (picked.winner < 0 || better(ballots[i], ballots[static_cast<size_t>(picked.winner)])) {
      picked.winner = static_cast<int32_t>(i);
    }
  }
  const Ballot& best = ballots[static_cast<size_t>(picked.winner)];
  for (const Ballot& ballot : ballots) {
    if (&ballot == &best || (with_answers && !ballot.has_answer)) continue;
    const bool same = ballot.has_answer && best.has_answer && ballot.answer == best.answer;
    picked.tie |= !same && !better(best, ballot);
  }
  return picked;
}

}  // namespace

std::vector<VoteGroup> GroupVotes(std::span<const Ballot> ballots) {
  std::vector<VoteGroup> groups;
  std::map<std::string_view, size_t> by_answer;
  for (size_t i = 0; i < ballots.size(); ++i) {
    const Ballot& ballot = ballots[i];
    if (!ballot.has_answer) continue;
    const auto [at, added] = by_answer.emplace(ballot.answer, groups.size());
    if (added) groups.push_back({std::string(ballot.answer), 0, 0, static_cast<int32_t>(i)});
    groups[at->second].count += 1;
    groups[at->second].weight += Weight(ballot);
  }
  // Groups are in order of their first ballot, which a stable sort keeps among equals.
  std::stable_sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) { return a.count > b.count; });
  return groups;
}

VoteSummary SummarizeVotes(std::span<const VoteGroup> groups, size_t total) {
  VoteSummary summary;
  summary.total = static_cast<int32_t>(total);
  summary.distinct = static_cast<int32_t>(groups.size());
  for (const VoteGroup& group : groups) summary.count += group.count;
  if (groups.empty()) return summary;
  const int32_t second = groups.size() > 1 ? groups[1].count : 0;
  summary.top = static_cast<double>(groups[0].count) / static_cast<double>(total);
  summary.margin = static_cast<double>(groups[0].count - second) / static_cast<double>(total);
  return summary;
}

Picked Pick(PickRule rule, std::span<const Ballot> ballots) {
  if (ballots.empty()) return {};
  const std::vector<VoteGroup> groups = GroupVotes(ballots);
  if (groups.empty()) {
    if (rule == PickRule::kMajority || rule == PickRule::kFirst) return {0, false};
    return BestBallot(ballots, groups, false);
  }
  switch (rule) {
    case PickRule::kMajority:
      return BestGroup(groups, [](const VoteGroup& a, const VoteGroup& b) { return a.count > b.count; });
    case PickRule::kWeightedVote:
      return BestGroup(groups, [](const VoteGroup& a, const VoteGroup& b) {
        return a.weight != b.weight ? a.weight > b.weight : a.count > b.count;
      });
    case PickRule::kBestOfN:
      return BestBallot(ballots, groups, true);
    case PickRule::kFirst: {
      const auto first = std::find_if(ballots.begin(), ballots.end(), [](const Ballot& b) { return b.has_answer; });
      return {static_cast<int32_t>(first - ballots.begin()), false};
    }
  }
  return {};
}

std::vector<int32_t> PickSeveral(PickRule rule, std::span<const Ballot> ballots, int32_t keep) {
  CONCLAVE_CHECK(rule == PickRule::kBestOfN || rule == PickRule::kFirst);
  const std::vector<VoteGroup> groups = GroupVotes(ballots);
  std::vector<int32_t> order;
  for (size_t i = 0; i < ballots.size(); ++i) {
    if (groups.empty() || ballots[i].has_answer) order.push_back(static_cast<int32_t>(i));
  }
  if (rule == PickRule::kBestOfN) {
    const BallotOrder better(groups);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return better(ballots[static_cast<size_t>(a)], ballots[static_cast<size_t>(b)]);
    });
  }
  if (order.size() > static_cast<size_t>(keep)) order.resize(static_cast<size_t>(keep));
  return order;
}

std::vector<double> BordaShares(std::span<const int32_t> order, int32_t count) {
  CONCLAVE_CHECK(count >= 2 && order.size() <= static_cast<size_t>(count));
  const double last = count - 1;
  const auto named = static_cast<double>(order.size());
  // The places named .. last, in the mean.
  std::vector<double> shares(static_cast<size_t>(count), (last - (named + last) / 2) / last);
  for (size_t place = 0; place < order.size(); ++place) {
    shares[static_cast<size_t>(order[place])] = (last - static_cast<double>(place)) / last;
  }
  return shares;
}

}  // namespace conclave::orchestrator
