// SPDX-License-Identifier: Apache-2.0
// AB-MCTS (Inoue et al. 2025): which answers of a tree to refine next, or whether to ask afresh. specs/deliberation.md
// §4.9.
//
// Ask and tell: the tree is all that has been told, so telling is idempotent and its order means nothing; asking for
// several trials at once adds to each that was chosen a pseudo-observation of the mean reward, so that the trials of a
// batch spread. A pure function of tree, count and seed: a last bit of exp and log may differ between machines, and a
// choice hangs on it about once in 10^13.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace conclave::orchestrator {

// An answer that has been scored. Parents stand before their children.
struct SearchNode {
  int32_t parent = -1;  // index; -1: asked afresh
  double reward = 0;    // clamped to [0, 1]
};

enum class SearchModel {
  // Rewards below a child j are N(a_j, s_y^2), a_j ~ N(m, s_a^2), m ~ N(0.5, 0.2^2), s_a ~ HalfN(0.2), s_y ~
  // HalfN(0.3);
  // Thompson sampling over the children's next rewards and a new child's. m and a_j are integrated exactly, s_a and s_y
  // on a
  // grid. A child below which at least 4 answers score, 75 % of them the same (to 0.01), is not entered again.
  kMixed,
  // Thompson sampling between refining here and going on below, then among the children; Beta(1/2, 1/2) with a += r,
  // b += 1 - r. A reward counts for refining at its parent, for going on at all above, and for every child on its way.
  kAggregated,
};

// For each of `count` trials the index of the answer to refine; -1: ask afresh.
std::vector<int32_t> AskSearch(SearchModel model, std::span<const SearchNode> tree, int32_t count, uint64_t seed);

// Which of several arms to use next, UCB1: mean + sqrt(2) sqrt(ln n / n_arm); an arm never used comes first; ties: the
// first.
struct Arm {
  int64_t count = 0;
  double reward_sum = 0;
};
size_t NextArm(std::span<const Arm> arms);

}  // namespace conclave::orchestrator
