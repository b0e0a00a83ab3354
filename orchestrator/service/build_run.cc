// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/build_run.h"

#include <utility>

#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {

absl::StatusOr<NewRun> BuildRun(deliberation::v1::RunRequest request, GraphLibrary* graphs,
                                std::span<const deliberation::v1::Binding> fleet_bindings,
                                std::span<const MemberFacts> members) {
  NewRun run;
  absl::StatusOr<std::shared_ptr<const CompiledGraph>> graph =
      request.has_graph() ? graphs->Compile(request.graph()) : graphs->Find(request.graph_name());
  if (!graph.ok()) {
    return graph.status().code() == absl::StatusCode::kInvalidArgument
               ? rpc::WithReason(graph.status(), "GRAPH_INVALID")
               : graph.status();
  }
  run.graph = *std::move(graph);
  ASSIGN_OR_RETURN(run.spec, BuildRunSpec(*run.graph, request, fleet_bindings, members));
  run.request = std::move(request);
  return run;
}

}  // namespace conclave::orchestrator
