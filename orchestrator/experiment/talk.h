// SPDX-License-Identifier: Apache-2.0
// What deliberating did to answers, and how far judges were right: specs/evaluation.md §2 ("Deliberation metrics").
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "orchestrator/experiment/votes.h"

namespace conclave::experiment {

// Sums over runs, by arm.
class TalkGatherer {
 public:
  void Add(const std::string& arm, const Talk& talk);

  // {"flips":[{"arm","stayed_right","right_to_wrong","wrong_to_right","stayed_wrong","kept","corrected","conformity",
  //   "net","p_mid"}],
  //  "verifiers":[{"arm","node","right","wrong","unmatched","true_positive","true_positive95","false_positive",
  //   "false_positive95","auc","auc_se","roc":[[false positive, true positive]]}]}; a score of 0.5 or more accepts.
  // Revisions of one question are not independent: p_mid is for reading, not for claims.
  void AddTo(nlohmann::ordered_json* summary) const;

 private:
  struct Judged {
    std::vector<stats::Judgement> judgements;
    size_t unmatched = 0;
  };
  std::vector<std::string> arms_;                                  // in order of first appearance
  std::map<std::string, std::vector<stats::Revision>> revisions_;  // by arm
  std::map<std::pair<std::string, std::string>, Judged> judged_;   // by arm and node
};

}  // namespace conclave::experiment
