// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/gather.h"

#include <algorithm>
#include <unordered_map>

namespace conclave::experiment {
namespace {

constexpr char kFinal[] = "final";

}  // namespace

Gatherer::Gatherer(std::vector<std::string> arms, std::vector<std::string> group)
    : arms_(std::move(arms)), group_(std::move(group)), arm_votes_(arms_.size()), counts_(arms_.size(), 0) {
  flows_.resize(arms_.size());
  for (size_t a = 0; a < arms_.size(); ++a) arm_votes_[a].arm = arms_[a];
}

void Gatherer::Add(size_t arm, size_t item, const RunVotes& run, OutcomeKind final_kind) {
  if (run.replicate != 0) return;
  talk_.Add(arms_[arm], run.talk);
  if (!run.stages.empty()) AddFlow(&flows_[arm], run.stages, final_kind);
  if (run.votes.empty()) return;
  AddVotes(arm, run.id, run.votes);
  for (const Vote& vote : run.votes) {
    if (vote.sample == 0) own_[vote.member].try_emplace(item, vote);
  }
}

void Gatherer::AddVotes(size_t arm, const std::string& id, const std::vector<Vote>& votes) {
  ArmVotes& all = arm_votes_[arm];
  const bool of_one =
      std::all_of(votes.begin(), votes.end(), [&](const Vote& v) { return v.member == votes[0].member; });
  all.one_member = (all.ids.empty() || all.one_member) && of_one;
  all.ids.push_back(id);
  std::vector<double>& seconds = all.seconds.emplace_back();
  for (const Vote& vote : votes) seconds.push_back(vote.seconds);
  stats::VoteCounts counts;
  std::map<std::string, uint32_t> wrong;
  for (const Vote& vote : votes) {
    if (vote.kind == OutcomeKind::kCorrect) {
      ++counts.correct;
    } else if (vote.answer_class.empty()) {
      ++counts.no_answer;
    } else {
      ++wrong[vote.answer_class];
    }
    arm_votes_[arm].flops_per_vote += vote.flops;
    ++counts_[arm];
  }
  for (const auto& [answer, count] : wrong) counts.wrong.push_back(count);
  arm_votes_[arm].items.push_back(std::move(counts));
}

void Gatherer::AddFlow(Flow* flow, const std::vector<Stage>& stages, OutcomeKind final_kind) {
  const auto enter = [&](const std::string& node, OutcomeKind kind) -> StageSum& {
    const auto [it, fresh] = flow->stages.try_emplace(node);
    if (fresh && node != kFinal) flow->order.push_back(node);
    ++it->second.runs;
    it->second.right += kind == OutcomeKind::kCorrect ? 1 : 0;
    return it->second;
  };
  for (size_t s = 0; s < stages.size(); ++s) {
    StageSum& sum = enter(stages[s].node, stages[s].kind);
    sum.calls += stages[s].calls;
    sum.output_tokens += stages[s].output_tokens;
    const bool last = s + 1 == stages.size();
    const bool right = stages[s].kind == OutcomeKind::kCorrect;
    const bool then = (last ? final_kind : stages[s + 1].kind) == OutcomeKind::kCorrect;
    ++flow->links[{stages[s].node, last ? kFinal : stages[s + 1].node}][(right ? 0u : 2u) + (then ? 0u : 1u)];
  }
  enter(kFinal, final_kind);
}

std::vector<ArmVotes> Gatherer::Votes() const {
  std::vector<ArmVotes> out;
  for (size_t a = 0; a < arm_votes_.size(); ++a) {
    if (arm_votes_[a].items.empty() || arm_votes_[a].items[0].total() < 2) continue;
    out.push_back(arm_votes_[a]);
    out.back().flops_per_vote = counts_[a] > 0 ? out.back().flops_per_vote / counts_[a] : 0;
  }
  return out;
}

size_t Gatherer::MostItems() const {
  size_t most = 0;
  for (const auto& [name, answers] : own_) most = std::max(most, answers.size());
  return most;
}

GroupAnswers Gatherer::Group() const {
  GroupAnswers group;
  std::vector<const std::map<size_t, Vote>*> rows;
  const auto take = [&](const std::string& name) {
    const auto it = own_.find(name);
    if (it == own_.end() || it->second.size() != MostItems()) return;
    group.members.push_back(name);
    rows.push_back(&it->second);
  };
  if (group_.empty()) {
    for (const auto& [name, answers] : own_) take(name);
  } else {
    for (const std::string& name : group_) take(name);
  }
  if (rows.empty()) return group;
  for (const auto& [item, unused] : *rows[0]) {
    std::unordered_map<std::string, int32_t> classes;
    for (const auto* row : rows) {
      const auto it = row->find(item);
      const Vote vote = it == row->end() ? Vote{} : it->second;
      group.correct.push_back(vote.kind == OutcomeKind::kCorrect ? 1 : 0);
      group.answers.push_back(
          vote.answer_class.empty()
              ? -1
              : classes.try_emplace(vote.answer_class, static_cast<int32_t>(classes.size())).first->second);
    }
  }
  return group;
}

nlohmann::ordered_json Gatherer::Flows() const {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (size_t a = 0; a < arms_.size(); ++a) {
    const Flow& flow = flows_[a];
    if (flow.order.empty()) continue;
    nlohmann::ordered_json stages = nlohmann::ordered_json::array(), links = stages;
    std::vector<std::string> order = flow.order;
    order.push_back(kFinal);
    for (const std::string& node : order) {
      const StageSum& sum = flow.stages.at(node);
      stages.push_back({{"node", node},
                        {"runs", sum.runs},
                        {"right", sum.right},
                        {"calls", sum.calls},
                        {"output_tokens", sum.output_tokens}});
    }
    for (const auto& [ends, counts] : flow.links) {
      links.push_back({{"from", ends.first},
                       {"to", ends.second},
                       {"right_right", counts[0]},
                       {"right_wrong", counts[1]},
                       {"wrong_right", counts[2]},
                       {"wrong_wrong", counts[3]}});
    }
    out.push_back({{"arm", arms_[a]}, {"stages", std::move(stages)}, {"links", std::move(links)}});
  }
  return out;
}

}  // namespace conclave::experiment
