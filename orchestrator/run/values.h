// SPDX-License-Identifier: Apache-2.0
// What a run holds: utterances, what was said of them, and the values of nodes. Private to this folder.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/jinja/jinja.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/pick/confidence.h"
#include "orchestrator/pick/pick.h"

namespace conclave::orchestrator {

struct Prompt;  // machine.h

// What one judge or check node said of one utterance.
struct Assessment {
  int32_t node = kNoNode;
  int32_t asked = 0;  // judgements asked for, lost ones included
  int32_t accepts = 0;
  int32_t rejects = 0;
  int32_t scored = 0;
  double score_sum = 0;
  bool passed = false;              // of a check
  int32_t wins = 0;                 // of a judge that compares; `scored` is then how often it was shown
  bool strict = false;              // every judgement has to accept
  std::vector<int32_t> judgements;  // ids, of a judge that does not compare

  double MeanScore() const { return scored == 0 ? 0 : score_sum / scored; }
  // Lost and unreadable judgements count against.
  bool Accepted() const { return strict ? asked > 0 && accepts == asked : accepts * 2 > asked; }
};

struct Utterance {
  int32_t node = kNoNode;
  int32_t member = -1;  // into RunSpec::members; -1: the check that wrote its notes
  int32_t sample = 0;
  int32_t round = 0;          // of the loop around, 0 outside
  int32_t author = -1;        // whose it is when a reader asks for its own: `member`, or the author of what is judged
  int32_t author_sample = 0;  // which of the author's samples, likewise
  bool must_answer = false;   // its role promised an answer
  std::string text;
  size_t shown_begin = 0, shown_size = 0;  // the part without reasoning
  std::optional<std::string> answer;       // normal form: equivalent answers are equal
  std::optional<double> score;             // of a judgement
  std::optional<bool> accept;              // of a judgement
  std::optional<double> confidence;        // as the writer stated it
  std::optional<std::string> label;
  jinja::Value fields;  // of its JSON; missing: its role promised none, or it could not be read
  std::optional<TokenConfidence> token_confidence;
  int32_t about = -1;                    // id of what it judges or was made from
  std::string item;                      // of a plan: its id there; "" for others
  std::vector<int32_t> needs;            // ids of the items that it needs
  bool last_item = false;                // of its plan
  int32_t id = -1;                       // its place among the run's
  bool dropped = false;                  // came behind a settled vote, and counts for nothing
  bool blank = false;                    // stands for asking afresh in a search
  std::shared_ptr<const Prompt> prompt;  // kept where somebody follows the conversation
  std::vector<int32_t> ranking;          // of a comparison: subjects, the best first; empty: unreadable
  int64_t output_tokens = 0;
  std::vector<Assessment> assessments;  // latest last, one per node
  // Made when first shown, so that many readers share one copy of the text.
  mutable jinja::Value shown_value, full_value;

  std::string_view shown() const { return std::string_view(text).substr(shown_begin, shown_size); }
  const Assessment* By(int32_t assessor) const {
    for (const Assessment& assessment : assessments) {
      if (assessment.node == assessor) return &assessment;
    }
    return nullptr;
  }
  // Its own score as a judgement, else the mean score of the last judge that gave one.
  std::optional<double> Score() const {
    if (score.has_value()) return score;
    for (auto it = assessments.rbegin(); it != assessments.rend(); ++it) {
      if (it->scored > 0) return it->MeanScore();
    }
    return std::nullopt;
  }
};

// One call of a node, in committed order: (member order, sample) for speak, (subject, member order, sample) for judge.
struct Slot {
  enum class State : uint8_t { kPending, kDone, kHole, kDropped };
  State state = State::kPending;
  int32_t member = 0;
  int32_t sample = 0;
  int32_t subject = -1;    // index into NodeState::judged, or number of a comparison
  int32_t compared = -1;   // of a comparison: index into NodeState::compared
  int32_t utterance = -1;  // id, once kDone
  int32_t count = 1;       // utterances from there on: the items of a plan
  // Calls made for it: how many in all, how many again after a loss, how many wait or are under way now.
  int32_t attempts = 0, retries = 0, open = 0;
  bool repaired = false;  // asked once more because nothing could be read
};

// Slots whose outcome may make later ones needless: all of a speak that stops when its vote is settled, those of one
// subject where a judge is strict. Outcomes are looked at in the order of the slots, whoever answers first.
struct Lane {
  int32_t begin = 0, end = 0;  // slots
  int32_t launched = 0;        // slots before it have been asked for
  int32_t committed = 0;       // slots before it have come to an end and were looked at
  bool settled = false;
};

enum class Phase : uint8_t { kIdle, kWaiting, kRunning, kDone };

// A node's place and value in the run. The value stays until the node runs again or the loop around it begins anew.
struct NodeState {
  Phase phase = Phase::kIdle;
  std::string path;
  std::vector<int32_t> utterances;  // ids; of a judge or check: its judgements
  std::vector<int32_t> previous;    // the value before this one, for a node that sees itself
  int32_t holes = 0;
  // speak and judge while running
  std::vector<Slot> slots;
  std::vector<Lane> lanes;                             // empty: everything is asked for at once
  std::vector<std::shared_ptr<const Prompt>> prompts;  // by slot, where there are lanes
  int32_t pending = 0;
  int32_t done = 0;
  std::vector<int32_t> judged;                 // ids, by subject: what is judged, or what each call is about
  std::vector<std::vector<int32_t>> compared;  // subjects of each comparison, as shown
  std::string note;
  int64_t begun = 0;     // how many times; of nodes with timers
  bool hedged = false;   // stragglers were asked a second time
  bool closing = false;  // the quorum is there, and the others have a while
  // judge and check
  double mean_score = 0;
  int32_t accepted = 0;
  double passed = 0;
  int32_t judgements = 0;
  bool assessed = false;
  // pick
  bool tie = false;
  std::vector<VoteGroup> groups;
  // call
  std::vector<std::pair<std::string, jinja::Value>> inputs;
  int32_t allowance = -1;  // of its present run
  // loop and branch
  int32_t round = 0;
  int32_t arm = -1;
  std::string top;        // the most frequent answer of the round before; "" when there was none
  int32_t unchanged = 0;  // for how many rounds
  // judge: how many times in a row; not part of the value, but of the loop around
  int32_t passes = 0, fails = 0;
  // Values that it had in earlier rounds of the loop around, and the present one, where somebody looks back.
  std::vector<std::vector<int32_t>> history;

  void ClearValue() {
    previous.swap(utterances);
    utterances.clear();
    groups.clear();
    note.clear();
    holes = accepted = judgements = round = unchanged = 0;
    mean_score = passed = 0;
    top.clear();
    assessed = tie = false;
  }
};

// Everything a run has so far. Ids of utterances are indices; references stay valid while more are added.
struct RunValues {
  std::deque<Utterance> utterances;
  std::vector<NodeState> nodes;

  const Utterance& utterance(int32_t id) const { return utterances[static_cast<size_t>(id)]; }
  Utterance& utterance(int32_t id) { return utterances[static_cast<size_t>(id)]; }
  int32_t Add(Utterance utterance) {
    utterance.id = static_cast<int32_t>(utterances.size());
    utterances.push_back(std::move(utterance));
    return utterances.back().id;
  }
  const NodeState& node(int32_t index) const { return nodes[static_cast<size_t>(index)]; }
  NodeState& node(int32_t index) { return nodes[static_cast<size_t>(index)]; }
};

// Ballots of utterances, all of weight 1.
std::vector<Ballot> BallotsOf(const RunValues& values, const std::vector<int32_t>& ids);

}  // namespace conclave::orchestrator
