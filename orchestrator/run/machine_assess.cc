// SPDX-License-Identifier: Apache-2.0
// What nodes make of utterances. Everything is counted in committed order, never in order of arrival.
#include <algorithm>
#include <set>
#include <utility>

#include "common/status.h"
#include "orchestrator/run/arithmetic.h"
#include "orchestrator/run/machine_impl.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

PickRule RuleOf(pb::Pick::By by) {
  switch (by) {
    case pb::Pick::WEIGHTED_VOTE:
      return PickRule::kWeightedVote;
    case pb::Pick::BEST_OF_N:
      return PickRule::kBestOfN;
    case pb::Pick::FIRST:
      return PickRule::kFirst;
    default:
      return PickRule::kMajority;
  }
}

}  // namespace

void Machine::Impl::FinishSpeak(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  for (const Slot& slot : state.slots) {
    if (slot.state != Slot::State::kDone) continue;
    for (int32_t i = 0; i < slot.count; ++i) state.utterances.push_back(slot.utterance + i);
  }
  NoteStop(node, &state);
  if (node.quorum > state.done && state.note.empty()) {
    state.note = fmt::format("quorum: {} wanted, {} of {} calls answered", node.quorum, state.done, state.slots.size());
  }
  const std::vector<VoteGroup> groups = GroupVotes(BallotsOf(values_, state.utterances));
  PutVotes(groups, FinishNode(node));
}

// Replaces what the same node said before, so that the latest word is the last.
void Machine::Impl::Attach(int32_t utterance, Assessment assessment) {
  std::vector<Assessment>& all = values_.utterance(utterance).assessments;
  std::erase_if(all, [&](const Assessment& earlier) { return earlier.node == assessment.node; });
  all.push_back(std::move(assessment));
}

void Machine::Impl::FinishJudge(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  if (node.compares()) return FinishComparisons(node);
  std::vector<Assessment> said(state.judged.size());
  for (const Slot& slot : state.slots) {
    if (slot.state == Slot::State::kDropped) continue;  // was never needed
    Assessment& assessment = said[static_cast<size_t>(slot.subject)];
    assessment.node = node.index;
    assessment.strict = node.strict;
    assessment.asked += 1;
    if (slot.state != Slot::State::kDone) continue;
    Utterance& judgement = values_.utterance(slot.utterance);
    const Utterance& judged = values_.utterance(state.judged[static_cast<size_t>(slot.subject)]);
    judgement.author = judged.author;
    judgement.author_sample = judged.author_sample;
    state.utterances.push_back(slot.utterance);
    assessment.judgements.push_back(slot.utterance);
    if (judgement.accept.has_value()) (*judgement.accept ? assessment.accepts : assessment.rejects) += 1;
    if (judgement.score.has_value()) {
      assessment.scored += 1;
      assessment.score_sum += *judgement.score;
    }
  }
  FinishAssessor(node, std::move(said));
}

// Writes what was said, by subject, to the utterances judged.
void Machine::Impl::FinishAssessor(const CompiledNode& node, std::vector<Assessment> said) {
  NodeState& state = values_.node(node.index);
  for (const int32_t id : state.utterances) {
    const Utterance& judgement = values_.utterance(id);
    state.judgements += judgement.score.has_value() || !judgement.ranking.empty() ? 1 : 0;
  }
  double sum = 0;
  int32_t scored = 0, judged = 0;
  for (size_t i = 0; i < said.size(); ++i) {
    if (said[i].asked == 0) continue;
    ++judged;
    if (said[i].scored > 0) sum += said[i].MeanScore(), ++scored;
    state.accepted += said[i].Accepted() ? 1 : 0;
    Attach(state.judged[i], said[i]);
  }
  const bool passed = judged > 0 && state.accepted == judged;
  state.passes = passed ? state.passes + 1 : 0;
  if (passed || state.judgements > 0) state.fails = passed ? 0 : state.fails + 1;
  state.assessed = scored > 0;
  state.mean_score = scored > 0 ? sum / scored : 0;
  pb::NodeFinished* finished = FinishNode(node);
  if (state.assessed) finished->set_mean_score(state.mean_score);
}

void Machine::Impl::RunCheck(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  PutNodeStarted(node, 0);
  std::optional<std::string> expected;
  if (node.checker == pb::Check::EXACT) {
    absl::StatusOr<std::string> text = variables_.Expected(node.index);
    if (!text.ok()) return Fail(text.status());
    expected = ReadShortAnswer(graph_->grader(), *text);
  }
  const std::vector<int32_t> checked = values_.node(node.of).utterances;
  int32_t passed = 0;
  for (const int32_t id : checked) {
    const Utterance& utterance = values_.utterance(id);
    Utterance notes;
    Assessment assessment;
    assessment.node = node.index;
    if (node.checker == pb::Check::EXACT) {
      assessment.passed = expected.has_value() && utterance.answer == expected;
      if (!assessment.passed) notes.text = "the answer is not the expected one";
    } else {
      const ArithmeticCheck check = CheckArithmetic(utterance.shown());
      assessment.passed = check.wrong.empty();
      notes.text = fmt::format("{}", fmt::join(check.wrong, "\n"));
    }
    passed += assessment.passed ? 1 : 0;
    notes.node = node.index;
    notes.author = utterance.author;
    notes.author_sample = utterance.author_sample;
    notes.round = variables_.RoundAt(node.index);
    notes.shown_size = notes.text.size();
    notes.score = assessment.passed ? 1.0 : 0.0;
    Attach(id, assessment);
    state.utterances.push_back(values_.Add(std::move(notes)));
  }
  state.assessed = !checked.empty();
  state.passed = checked.empty() ? 0 : static_cast<double>(passed) / static_cast<double>(checked.size());
  state.note = fmt::format("{} of {} passed", passed, checked.size());
  pb::NodeFinished* finished = FinishNode(node);
  if (state.assessed) finished->set_mean_score(state.passed);
}

// Those that compete: each once, in the order of the nodes, where `where` is true of them.
absl::StatusOr<std::vector<int32_t>> Machine::Impl::Competitors(const CompiledNode& node) const {
  std::vector<int32_t> ids = values_.node(node.of).utterances;
  for (const int32_t also : node.also) {
    const std::vector<int32_t>& more = values_.node(also).utterances;
    ids.insert(ids.end(), more.begin(), more.end());
  }
  std::vector<int32_t> competing;
  std::set<int32_t> taken;
  for (const int32_t id : ids) {
    if (!node.also.empty() && !taken.insert(id).second) continue;
    ASSIGN_OR_RETURN(const bool takes_part, variables_.TakesPart(node.index, values_.utterance(id)));
    if (takes_part) competing.push_back(id);
  }
  return competing;
}

void Machine::Impl::RunPick(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  PutNodeStarted(node, 0);
  const absl::StatusOr<std::vector<int32_t>> competing = Competitors(node);
  if (!competing.ok()) return Fail(competing.status());
  const std::vector<int32_t>& ids = *competing;
  if (node.searches()) return RunSearch(node, ids);
  std::vector<Ballot> ballots = BallotsOf(values_, ids);
  if (node.by == pb::Pick::WEIGHTED_VOTE || node.by == pb::Pick::BEST_OF_N) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const absl::StatusOr<double> weight = variables_.Weigh(node.index, "weight", values_.utterance(ids[i]));
      if (!weight.ok()) return Fail(weight.status());
      ballots[i].weight = *weight;
    }
  }
  const PickRule rule = RuleOf(node.by);
  const Picked picked = Pick(rule, ballots);
  if (node.keep > 1) {
    for (const int32_t ballot : PickSeveral(rule, ballots, node.keep)) {
      state.utterances.push_back(ids[static_cast<size_t>(ballot)]);
    }
  } else if (picked.winner >= 0) {
    state.utterances = {ids[static_cast<size_t>(picked.winner)]};
  }
  state.tie = picked.tie;
  if (node.where.has_value()) state.note = fmt::format("{} compete", ids.size());
  const std::vector<VoteGroup> groups = GroupVotes(ballots);
  pb::NodeFinished* finished = FinishNode(node);
  finished->set_tie(picked.tie);
  PutVotes(groups, finished);
  if (picked.winner >= 0) {
    const std::optional<std::string>& answer = values_.utterance(state.utterances.front()).answer;
    if (answer.has_value()) finished->set_answer(*answer);
  }
}

}  // namespace conclave::orchestrator
