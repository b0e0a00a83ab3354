// SPDX-License-Identifier: Apache-2.0
// What was chosen by looking at results must not have been chosen on the questions that are reported on.
#pragma once

#include "absl/status/status.h"
#include "orchestrator/experiment/arms/ensemble.h"
#include "orchestrator/experiment/experiment_file.h"
#include "orchestrator/fleet/fleet_file.h"

namespace conclave::experiment {

// INVALID_ARGUMENT, one line per fault with what was chosen and where it is declared, when
// - `chosen` names no split or the test split, nothing that was chosen, or a split that the benchmark does not keep
// apart
//   (the benchmark asks the same split, or all questions, and no path says which questions they were);
// - a question of `chosen`'s or of a member's development path is asked;
// - an arm reads weights that are unequal, and neither come from members' development results nor are declared as
// chosen
//   WEIGHTS;
// - members have development results and the benchmark asks the development split itself, where an arm reads weights or
// a
//   best member is to be named.
// NOT_FOUND and others: a path that cannot be read.
absl::Status CheckChoices(const LoadedExperiment& experiment, const orchestrator::LoadedFleet& fleet,
                          orchestrator::GraphLibrary& library);

}  // namespace conclave::experiment
