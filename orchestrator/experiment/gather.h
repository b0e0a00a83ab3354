// SPDX-License-Identifier: Apache-2.0
// Gathers, run by run, what a summary says about the members' own answers and about how verdicts change from stage to
// stage. Order of adding does not matter but for equal (member, item), where the first counts.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "orchestrator/experiment/summary.h"
#include "orchestrator/experiment/talk.h"
#include "orchestrator/experiment/votes.h"

namespace conclave::experiment {

class Gatherer {
 public:
  // `group`: members described together; empty: all whose own answers are known for every item.
  Gatherer(std::vector<std::string> arms, std::vector<std::string> group);

  // `item` is the item's number. `final_kind` is the run's own verdict. Replicates beyond the first are left out.
  void Add(size_t arm, size_t item, const RunVotes& run, OutcomeKind final_kind);

  // Of arms with two votes or more.
  std::vector<ArmVotes> Votes() const;
  // Members whose own answer to every item with any answer is known.
  GroupAnswers Group() const;
  // By arm with a stage before its verdict: [{"arm","stages":[{"node","runs","right","calls","output_tokens"}],
  // "links":[{"from","to","right_right","right_wrong","wrong_right","wrong_wrong"}]}]; the last stage is "final".
  nlohmann::ordered_json Flows() const;
  const TalkGatherer& talk() const { return talk_; }

 private:
  struct StageSum {
    int64_t runs = 0, right = 0, calls = 0;
    double output_tokens = 0;
  };
  struct Flow {
    std::vector<std::string> order;  // of stages, by first appearance
    std::map<std::string, StageSum> stages;
    std::map<std::pair<std::string, std::string>, std::array<int64_t, 4>> links;  // right_right .. wrong_wrong
  };
  size_t MostItems() const;
  void AddVotes(size_t arm, const std::string& id, const std::vector<Vote>& votes);
  void AddFlow(Flow* flow, const std::vector<Stage>& stages, OutcomeKind final_kind);

  const std::vector<std::string> arms_, group_;
  std::vector<ArmVotes> arm_votes_;  // [arms]
  std::vector<double> counts_;       // votes per arm
  TalkGatherer talk_;
  std::vector<Flow> flows_;                            // [arms]
  std::map<std::string, std::map<size_t, Vote>> own_;  // member -> item -> first answer
};

}  // namespace conclave::experiment
