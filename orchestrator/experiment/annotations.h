// SPDX-License-Identifier: Apache-2.0
// What a person found on looking at items (audit.jsonl lists those worth it): annotations.jsonl in the run directory,
// honoured whenever outcomes are written. One object per line, one of
//   {"id": .., "gold": "12", "note": ..}                              the gold answer is wrong; grade against this one
//   {"id": .., "exclude": true, "note": ..}                           the item is broken; leave it out of every arm
//   {"id": .., "arm": .., "replicate": 0, "outcome": "correct", "note": ..}   the grader is wrong about this one answer
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/runner.h"

namespace conclave::experiment {

struct Annotations {
  std::map<std::string, std::string> gold;
  std::vector<std::string> excluded;
  Verdicts verdicts;
};

// Nothing where there is no file. INVALID_ARGUMENT "file:line: what" for a line that is none of the three, or that says
// about the same thing twice.
absl::StatusOr<Annotations> ReadAnnotations(const std::string& path);

// The plan as annotated; a note says how many of each. INVALID_ARGUMENT for an item or arm that the plan does not have.
absl::StatusOr<Plan> ApplyAnnotations(const Annotations& annotations, Plan plan);

}  // namespace conclave::experiment
