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
  double margin = 0.03;      // accuracy
  bool generated = false;    // an arm against one of its baselines; a family of its own for Holm
  double discordance = 0.1;  // expected share of items on which exactly one is right
};

// An arm that belongs beside an arm of several members, or why there is none.
struct BaselineSpec {
  std::string of, kind, subject;  // the arm it belongs to; "rival_curve", ..; the member or role in question
  std::string arm, why_not;       // one of the two
};

// What was declared before the run.
struct Declaration {
  std::string name, question, selection_rule;
  std::string benchmark, grader;
  int32_t replicates = 1;
  uint64_t seed = 0;
  std::vector<ContrastSpec> contrasts;
  bool baselines_added = true;  // as asked for
  std::vector<BaselineSpec> baselines;
  std::vector<std::string> generated_arms;  // added by the tool
  std::string match = "flops";              // the unit in which compute is matched first
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
  double flops_per_vote = 0;                      // mean; 0: unknown
  std::vector<std::string> ids = {};              // of the items
  bool one_member = false;                        // all votes are one member's: a self-consistency curve
  std::vector<std::vector<double>> seconds = {};  // of each item's votes, where they are known
};

inline constexpr size_t kCurvePointsMax = 64;

// Sizes at which a curve of up to `most` votes is drawn: 1, 2, 3, .., most; beyond a few dozen they are spread.
std::vector<size_t> CurveSizes(size_t most);

// INVALID_ARGUMENT when a contrast names an arm without rows. Contrasts with no common item are an error too.
absl::StatusOr<nlohmann::ordered_json> Summarize(const Declaration& declaration, std::span<const Outcome> rows,
                                                 const GroupAnswers& group, std::span<const ArmVotes> votes);

// One contrast as summary.json has it, without p_holm.
nlohmann::ordered_json ToJson(const Contrast& contrast);

}  // namespace conclave::experiment
