// SPDX-License-Identifier: Apache-2.0
// From a graph's text to a CompiledGraph, or to every error in it at once:
//   council.textproto:9: node "review": until reads "votez.margin"; known names here: round, verify, votes
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/graph.pb.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/role/role.h"

namespace conclave::orchestrator {

// The graph of a name, for `call`; NOT_FOUND when there is none. Errors name the file and the line.
using FindGraph = std::function<absl::StatusOr<deliberation::v1::Graph>(const std::string& name)>;
// Reads NAME.textproto, which must say that name, from the first of the directories that has it. Graphs that have been
// read are not kept.
FindGraph GraphsIn(std::vector<std::string> directories);

// `graph` is null exactly when there are errors.
struct CompileResult {
  std::shared_ptr<const CompiledGraph> graph;
  std::vector<std::string> errors;  // in order of lines
  // The graph, or INVALID_ARGUMENT with one error per line.
  absl::StatusOr<std::shared_ptr<const CompiledGraph>> ToStatusOr() &&;
};

// `file` is only for messages. A syntax error ends the reading of the text, so nothing behind it is reported.
// Without `find` only such graphs can be called as the text itself brings.
CompileResult CompileGraphText(std::string_view text, const std::string& file, const RoleLibrary& roles,
                               const FindGraph& find = nullptr);
// A graph that has no text, hence no lines.
CompileResult CompileGraph(const deliberation::v1::Graph& graph, const RoleLibrary& roles,
                           const FindGraph& find = nullptr);
// From CompiledGraph::canonical(): the same graph with the roles it had, whatever the library has now.
absl::StatusOr<std::shared_ptr<const CompiledGraph>> CompileBundle(std::string_view canonical);

}  // namespace conclave::orchestrator
