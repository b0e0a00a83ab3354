// SPDX-License-Identifier: Apache-2.0
// Who sits in which seat: names and globs of a graph mapped to members of a fleet.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/graph/compiled_graph.h"

namespace conclave::orchestrator {

// "*" stands for any run of characters, slashes included, "?" for one. Time is bounded by pattern x name.
bool GlobMatches(std::string_view pattern, std::string_view name);

// The binding of RunSpec: each name that the graph uses -> indices into `members`.
// The last entry of `bindings` for exactly that name says which members (names or globs); without one the name itself
// is the pattern. Members come in the order of the patterns, then of the fleet, each once. INVALID_ARGUMENT lists every
// name that comes to no member, with the node that uses it.
absl::StatusOr<std::map<std::string, std::vector<int32_t>>> ResolveBinding(
    const CompiledGraph& graph, std::span<const deliberation::v1::Binding> bindings,
    std::span<const std::string> members);

// Who speaks or judges at a node, in order, each once. REQUIRES a complete binding.
std::vector<int32_t> SeatsOf(const CompiledNode& node, const std::map<std::string, std::vector<int32_t>>& binding);

}  // namespace conclave::orchestrator
