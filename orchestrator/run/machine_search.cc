// SPDX-License-Identifier: Apache-2.0
// Where a tree search goes on, and who does it. The search itself is a pure function (pick/search.h) of the pool of
// utterances, which are the tree: each stands below the one that it was made from.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "common/status.h"
#include "orchestrator/pick/search.h"
#include "orchestrator/run/machine_impl.h"
#include "orchestrator/run/seeds.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

}  // namespace

void Machine::Impl::RunSearch(const CompiledNode& node, std::vector<int32_t> ids) {
  // Depth below what was asked afresh: with it, parents come before children and siblings keep their order.
  std::map<int32_t, int32_t> depths;
  for (const int32_t id : ids) {
    int32_t depth = 0;
    for (int32_t up = values_.utterance(id).about; up >= 0; up = values_.utterance(up).about) ++depth;
    depths[id] = depth;
  }
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return depths[a] < depths[b]; });
  std::map<int32_t, int32_t> places;
  std::vector<SearchNode> tree;
  for (const int32_t id : ids) {
    const absl::StatusOr<double> reward = variables_.Weigh(node.index, "weight", values_.utterance(id));
    if (!reward.ok()) return Fail(reward.status());
    // One whose parent has left the pool stands below the nearest that is still there.
    int32_t up = values_.utterance(id).about;
    while (up >= 0 && !places.contains(up)) up = values_.utterance(up).about;
    places[id] = static_cast<int32_t>(tree.size());
    tree.push_back({up < 0 ? -1 : places[up], *reward});
  }
  NodeState& state = values_.node(node.index);
  const SearchModel model = node.by == pb::Pick::AB_MCTS_M ? SearchModel::kMixed : SearchModel::kAggregated;
  const uint64_t seed = DeriveSeed({spec_.seed, question_, state.path + "/search", "", 0, -1});
  int32_t afresh = 0;
  for (const int32_t place : AskSearch(model, tree, node.keep, seed)) {
    if (place >= 0) {
      state.utterances.push_back(ids[static_cast<size_t>(place)]);
      continue;
    }
    ++afresh;
    Utterance blank;
    blank.node = node.index;
    blank.must_answer = true;  // it cannot win
    blank.blank = true;
    state.utterances.push_back(values_.Add(std::move(blank)));
  }
  state.note = fmt::format("of {} answers {} are refined, {} asked afresh", ids.size(), node.keep - afresh, afresh);
  FinishNode(node);
}

absl::StatusOr<std::vector<size_t>> Machine::Impl::Assigned(const CompiledNode& node, int32_t subjects) const {
  const std::vector<int32_t>& seats = seats_[static_cast<size_t>(node.index)];
  std::vector<size_t> assigned;
  if (node.assign == pb::Speak::TURNS) {
    const int32_t before = std::max(0, variables_.RoundAt(node.index) - 1) * subjects;
    for (int32_t i = 0; i < subjects; ++i) assigned.push_back(static_cast<size_t>(before + i) % seats.size());
    return assigned;
  }
  std::vector<Arm> arms(seats.size());
  for (const std::vector<int32_t>& round : values_.node(node.index).history) {
    for (const int32_t id : round) {
      const Utterance& made = values_.utterance(id);
      ASSIGN_OR_RETURN(const double worth, variables_.Weigh(node.index, "worth", made));
      const auto seat = std::find(seats.begin(), seats.end(), made.member) - seats.begin();
      arms[static_cast<size_t>(seat)].count += 1;
      arms[static_cast<size_t>(seat)].reward_sum += std::min(worth, 1.0);
    }
  }
  for (int32_t i = 0; i < subjects; ++i) {
    const size_t arm = NextArm(arms);
    assigned.push_back(arm);
    // What is under way counts as one more of the arm's mean, so that a batch spreads.
    Arm& taken = arms[arm];
    taken.reward_sum += taken.count == 0 ? 0.5 : taken.reward_sum / static_cast<double>(taken.count);
    taken.count += 1;
  }
  return assigned;
}

}  // namespace conclave::orchestrator
