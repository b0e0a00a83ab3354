// SPDX-License-Identifier: Apache-2.0
// Judges that compare utterances with one another: who is shown beside whom, and what an order is worth. An order that
// cannot be read, or is lost, says nothing about anybody. specs/deliberation.md §4.4, §4.12.
#include <fmt/format.h>

#include <algorithm>

#include "orchestrator/run/machine_impl.h"
#include "orchestrator/run/seeds.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

int32_t Size(const std::vector<int32_t>& values) { return static_cast<int32_t>(values.size()); }

}  // namespace

std::vector<Slot> Machine::Impl::ComparisonSlots(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  state.judged = values_.node(node.of).utterances;
  state.compared.clear();
  std::vector<Slot> slots;
  int32_t not_asked = 0;
  for (const int32_t seat : seats_[static_cast<size_t>(node.index)]) {
    std::vector<int32_t> subjects;
    for (int32_t i = 0; i < Size(state.judged); ++i) {
      const Utterance& utterance = values_.utterance(state.judged[static_cast<size_t>(i)]);
      if (utterance.must_answer && !utterance.answer.has_value()) continue;  // it cannot win
      if (node.exclude_self && utterance.member == seat) continue;
      subjects.push_back(i);
    }
    if (subjects.size() < 2) {
      ++not_asked;
      continue;
    }
    for (int32_t sample = 0; sample < node.samples; ++sample) {
      Deal(node, {Slot::State::kPending, seat, sample, 0, 0, -1, 1}, subjects, &slots);
    }
  }
  if (not_asked > 0) state.note = fmt::format("{} judges had fewer than two utterances to compare", not_asked);
  return slots;
}

// The comparisons of one judge's sample.
void Machine::Impl::Deal(const CompiledNode& node, const Slot& judge, std::vector<int32_t> subjects,
                         std::vector<Slot>* slots) {
  NodeState& state = values_.node(node.index);
  const auto add = [&](int32_t number, std::vector<int32_t> shown) {
    slots->push_back(judge);
    slots->back().subject = number;
    slots->back().compared = static_cast<int32_t>(state.compared.size());
    state.compared.push_back(std::move(shown));
  };
  const int32_t count = Size(subjects);
  if (node.method == pb::Judge::PAIRS) {
    int32_t number = 0;
    for (size_t i = 0; i < subjects.size(); ++i) {
      for (size_t j = i + 1; j < subjects.size(); ++j) {
        add(number++, {subjects[i], subjects[j]});
        add(number++, {subjects[j], subjects[i]});
      }
    }
    return;
  }
  const std::string& member = spec_.members[static_cast<size_t>(judge.member)].name;
  const std::vector<int32_t> order =
      Permutation(DeriveSeed({spec_.seed, question_, state.path + "/deal", member, judge.sample, -1}), count);
  // Groups as equal as can be: the first ones take one more.
  const int32_t groups = node.window == 0 ? 1 : (count + node.window - 1) / node.window;
  for (int32_t group = 0, at = 0; group < groups; ++group) {
    const int32_t size = count / groups + (group < count % groups ? 1 : 0);
    std::vector<int32_t> shown;
    shown.reserve(static_cast<size_t>(size));
    for (const int32_t end = at + size; at < end; ++at) {
      shown.push_back(subjects[static_cast<size_t>(order[static_cast<size_t>(at)])]);
    }
    if (size > 1) add(group, std::move(shown));  // the odd one out of a window of two has nobody beside it
  }
}

std::vector<int32_t> Machine::Impl::ReadOrder(const Call& call, std::string_view text) const {
  const pb::RankingContract& contract = graph_->node(call.node).role->proto.ranking();
  std::vector<int32_t> order = ReadRanking(contract, Size(call.shown), text);
  for (int32_t& place : order) place = call.shown[static_cast<size_t>(place)];
  return order;
}

void Machine::Impl::FinishComparisons(const CompiledNode& node) {
  NodeState& state = values_.node(node.index);
  std::vector<Assessment> said(state.judged.size());
  for (Assessment& assessment : said) assessment.node = node.index;
  const auto about = [&](int32_t subject) -> Assessment& { return said[static_cast<size_t>(subject)]; };
  const auto score = [&](int32_t subject, double points, bool won) {
    about(subject).scored += 1;
    about(subject).score_sum += points;
    about(subject).wins += won ? 1 : 0;
  };
  const std::vector<int32_t> unread;
  const auto order_of = [&](const Slot& slot) -> const std::vector<int32_t>& {
    return slot.state == Slot::State::kDone ? values_.utterance(slot.utterance).ranking : unread;
  };
  for (size_t i = 0; i < state.slots.size(); ++i) {
    const Slot& slot = state.slots[i];
    const std::vector<int32_t>& shown = state.compared[static_cast<size_t>(slot.compared)];
    for (const int32_t subject : shown) about(subject).asked += 1;
    if (slot.state == Slot::State::kDone) state.utterances.push_back(slot.utterance);
    const std::vector<int32_t>& order = order_of(slot);
    if (order.empty()) continue;
    if (node.method == pb::Judge::CHOICE) {
      for (const int32_t subject : shown) score(subject, subject == order.front() ? 1 : 0, subject == order.front());
    } else if (node.method == pb::Judge::RANKING) {
      std::vector<int32_t> places;
      places.reserve(order.size());
      for (const int32_t subject : order) {
        places.push_back(static_cast<int32_t>(std::find(shown.begin(), shown.end(), subject) - shown.begin()));
      }
      const std::vector<double> shares = BordaShares(places, Size(shown));
      for (size_t at = 0; at < shown.size(); ++at) score(shown[at], shares[at], shown[at] == order.front());
    } else if (i % 2 == 1) {
      // The second of the two orders of a pair: only together they say anything.
      const std::vector<int32_t>& other = order_of(state.slots[i - 1]);
      if (other.empty()) continue;
      const bool agree = other.front() == order.front();
      for (const int32_t subject : shown) {
        const bool won = agree && subject == order.front();
        score(subject, agree ? (won ? 1 : 0) : 0.5, won);
      }
    }
  }
  FinishAssessor(node, std::move(said));
}

}  // namespace conclave::orchestrator
