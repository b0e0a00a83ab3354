// SPDX-License-Identifier: Apache-2.0
// Whether the members that sit in a graph can do what their seats need, before anything is spent.
#pragma once

#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/run/machine.h"

namespace conclave::orchestrator {

// Of RunRequest.
inline constexpr std::string_view kResultConstraintField = "result_constraint";
inline constexpr std::string_view kResultLogprobsField = "result_logprob_count";

// FAILED_PRECONDITION CAPABILITY_MISSING with a line per node and member: what is missing, what needs it, what to do.
// One that is about what is asked of the result as such has the field of RunRequest as its violation. `members` in the
// order of spec.members.
absl::Status CheckAbilities(const CompiledGraph& graph, const RunSpec& spec, std::span<const MemberFacts> members);

}  // namespace conclave::orchestrator
