// SPDX-License-Identifier: Apache-2.0
// Many ballots become one. Pure functions over ballots in their committed order, (member order, sample index): who
// arrived first plays no part. An empty answer never wins while there is another. specs/deliberation.md §4.1-4.3.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::orchestrator {

// One utterance as a vote.
struct Ballot {
  bool has_answer = false;  // false: the empty answer, which has no class and no vote
  std::string_view answer;  // class of the answer: equivalent answers are equal. Borrowed for the call
  double weight = 0;        // negative and not-a-number count as 0
  int64_t output_tokens = 0;
};

// The ballots of one answer.
struct VoteGroup {
  std::string answer;
  int32_t count = 0;
  double weight = 0;
  int32_t first = 0;  // smallest index
};

// The groups, most votes first, then by first index.
std::vector<VoteGroup> GroupVotes(std::span<const Ballot> ballots);

// What a vote says at a glance. Shares are of `total`: an empty answer supports nobody.
struct VoteSummary {
  int32_t total = 0;     // ballots
  int32_t count = 0;     // with an answer
  int32_t distinct = 0;  // different answers
  double top = 0;        // share of the most frequent answer
  double margin = 0;     // its lead over the second
};
VoteSummary SummarizeVotes(std::span<const VoteGroup> groups, size_t total);

enum class PickRule { kMajority, kWeightedVote, kBestOfN, kFirst };

struct Picked {
  int32_t winner = -1;  // index of a ballot; -1: there are none
  bool tie = false;     // order alone decided between different answers
};

// kMajority      the answer with the most votes; tie: the one given first
// kWeightedVote  the largest sum of weights; then most votes; tie: the one given first
// kBestOfN       the ballot with the largest weight; then the answer with more votes; then fewer tokens; tie: first
// kFirst         the first ballot with an answer
// Of the winning answer's ballots the first is taken. When no ballot has an answer, the same rules apply to all of them
// with every answer counted as different (kMajority and kFirst: the first ballot).
Picked Pick(PickRule rule, std::span<const Ballot> ballots);

// The `keep` best ballots, the best in front. kBestOfN: the order of Pick, each ballot by itself, even where answers
// are the same; kFirst: those with an answer, in their order. Ballots without an answer only when none has one.
// REQUIRES one of these two rules.
std::vector<int32_t> PickSeveral(PickRule rule, std::span<const Ballot> ballots, int32_t keep);

// Shares of Borda for `count` candidates ordered by one judge: the place p counts from 0 as (count - 1 - p) / (count -
// 1); candidates that `order` (indices, the best first, each once) leaves out share the places left. REQUIRES count
// >= 2.
std::vector<double> BordaShares(std::span<const int32_t> order, int32_t count);

}  // namespace conclave::orchestrator
