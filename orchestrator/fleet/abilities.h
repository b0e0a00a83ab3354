// SPDX-License-Identifier: Apache-2.0
// Whether the members that sit in a graph can do what their seats need, before anything is spent.
#pragma once

#include <span>

#include "absl/status/status.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/run/machine.h"

namespace conclave::orchestrator {

// FAILED_PRECONDITION CAPABILITY_MISSING with a line per node and member: what is missing, what needs it, what to do.
// `members` in the order of spec.members.
absl::Status CheckAbilities(const CompiledGraph& graph, const RunSpec& spec, std::span<const MemberFacts> members);

}  // namespace conclave::orchestrator
