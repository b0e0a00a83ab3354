// SPDX-License-Identifier: Apache-2.0
// From graded rows to summary.json (interface: a run directory). Pure: same input, same bytes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/contrast.h"
#include "orchestrator/experiment/outcome.h"
#include "orchestrator/experiment/stats/votes.h"

namespace conclave::experiment {

struct ContrastSpec {
  std::string a, b;
  bool primary = false;
  double margin = 0.03;  // accuracy
};

// What was declared before the run.
struct Declaration {
  std::string name, question, selection_rule;
  std::string benchmark, grader;
  int32_t replicates = 1;
  uint64_t seed = 0;
  std::vector<ContrastSpec> contrasts;
};

// Each member's own answer to each item, before any deliberation: for the oracle and the correlation of errors.
struct GroupAnswers {
  std::vector<std::string> members;
  std::vector<uint8_t> correct;  // [items, members], 0 or 1
  std::vector<int32_t> answers;  // [items, members], class within the item, < 0: none
};

// The independent votes that an arm's graph begins with.
struct ArmVotes {
  std::string arm;
  std::vector<stats::VoteCounts> items;
  double flops_per_vote = 0;  // mean; 0: unknown
};

inline constexpr size_t kCurvePointsMax = 64;

// INVALID_ARGUMENT when a contrast names an arm without rows. Contrasts with no common item are an error too.
absl::StatusOr<nlohmann::ordered_json> Summarize(const Declaration& declaration, std::span<const Outcome> rows,
                                                 const GroupAnswers& group, std::span<const ArmVotes> votes);

// One contrast as summary.json has it, without p_holm.
nlohmann::ordered_json ToJson(const Contrast& contrast);

}  // namespace conclave::experiment
