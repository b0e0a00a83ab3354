// SPDX-License-Identifier: Apache-2.0
// From a request to a run: its graph found and compiled, names bound to members, budgets and costs attached.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/fleet/fleet_file.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/role/role.h"
#include "orchestrator/run/machine.h"

namespace conclave::orchestrator {

// Graphs by name or path, each compiled once. Thread-safe.
class GraphLibrary {
 public:
  // `directory` holds NAME.textproto and roles/*.textproto. INVALID_ARGUMENT lists every error of the roles.
  static absl::StatusOr<std::unique_ptr<GraphLibrary>> Open(const std::string& directory);

  // A shipped graph's name, or a path (something with a slash or ending ".textproto"). A graph's own roles directory,
  // if there is one beside it, comes before the shipped roles, and graphs beside it before the shipped ones. NOT_FOUND
  // GRAPH_NOT_FOUND lists the shipped names; INVALID_ARGUMENT has every error, one per line.
  absl::StatusOr<std::shared_ptr<const CompiledGraph>> Find(const std::string& name_or_path);
  // A graph that came as a message.
  absl::StatusOr<std::shared_ptr<const CompiledGraph>> Compile(const deliberation::v1::Graph& graph) const;

  std::vector<std::string> ShippedNames() const;
  // What a graph that is no file may call.
  FindGraph Callable() const { return GraphsIn({directory_}); }
  const RoleLibrary& roles() const { return roles_; }
  const std::string& directory() const { return directory_; }

 private:
  explicit GraphLibrary(std::string directory) : directory_(std::move(directory)) {}

  const std::string directory_;
  RoleLibrary roles_;
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<const CompiledGraph>> compiled_ ABSL_GUARDED_BY(mutex_);
};

// What a fleet tells of its members before anybody serves them: names, weights, cards and models.
std::vector<MemberFacts> DeclaredMembers(const LoadedFleet& fleet);

// Everything of a RunSpec but its id. `fleet_bindings` come before the request's own. A fleet of one member sits in
// every seat that no binding names. INVALID_ARGUMENT names every seat that is left empty; FAILED_PRECONDITION
// CAPABILITY_MISSING what a member cannot do that its seat needs.
absl::StatusOr<RunSpec> BuildRunSpec(const CompiledGraph& graph, const deliberation::v1::RunRequest& request,
                                     std::span<const deliberation::v1::Binding> fleet_bindings,
                                     std::span<const MemberFacts> members);

}  // namespace conclave::orchestrator
