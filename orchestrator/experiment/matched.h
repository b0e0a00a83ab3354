// SPDX-License-Identifier: Apache-2.0
// What arms are worth at what they cost: compared with curves at equal cost in every unit, and who is on the frontier.
// Adds to a summary that Summarize made. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <span>

#include "orchestrator/experiment/contrast.h"
#include "orchestrator/experiment/summary.h"

namespace conclave::experiment {

// Adds
//   matched:
//   [{"arm","against","unit","primary","cost","curve_cost":[least,most],"range","votes","accuracy","difference",
//     "se","ci95","bca95","replicates","how"}]: `arm` against the self-consistency curve of `against`, in one unit
//     each, read at the arm's own mean cost, linear in log cost between sizes; the interval is a bootstrap's over
//     questions (or clusters) that reads cost and curve anew. "range" is inside, below or above; outside there is no
//     difference: nothing is extrapolated. `primary` marks the declared unit. Pairs are the arms and their baselines'
//     curves, and declared contrasts with the votes of one member.
//   frontier: [{"arm","on":{unit: bool},"probability":{unit: share of draws}}], per unit of cost, over the items that
//   all
//     arms with that cost have.
void AddMatched(const Declaration& declaration, std::span<const Outcome> rows, std::span<const ArmVotes> votes,
                nlohmann::ordered_json* summary);

}  // namespace conclave::experiment
