// SPDX-License-Identifier: Apache-2.0
// From a graph's text to a CompiledGraph, or to every error in it at once:
//   council.textproto:9: node "review": until reads "votez.margin"; known names here: round, verify, votes
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/graph.pb.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/role/role.h"

namespace conclave::orchestrator {

// `graph` is null exactly when there are errors.
struct CompileResult {
  std::shared_ptr<const CompiledGraph> graph;
  std::vector<std::string> errors;  // in order of lines
  // The graph, or INVALID_ARGUMENT with one error per line.
  absl::StatusOr<std::shared_ptr<const CompiledGraph>> ToStatusOr() &&;
};

// `file` is only for messages. A syntax error ends the reading of the text, so nothing behind it is reported.
CompileResult CompileGraphText(std::string_view text, const std::string& file, const RoleLibrary& roles);
// A graph that has no text, hence no lines.
CompileResult CompileGraph(const deliberation::v1::Graph& graph, const RoleLibrary& roles);
// From CompiledGraph::canonical(): the same graph with the roles it had, whatever the library has now.
absl::StatusOr<std::shared_ptr<const CompiledGraph>> CompileBundle(std::string_view canonical);

}  // namespace conclave::orchestrator
