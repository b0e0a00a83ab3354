// SPDX-License-Identifier: Apache-2.0
// What is run in a simulated world, and by whom.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "orchestrator/backend/worker_backend.h"
#include "orchestrator/graph/compiled_graph.h"

namespace conclave::orchestrator {

inline constexpr int32_t kSimWorkers = 4;

std::string SimAddress(int32_t worker);
// m1, m2, m3, and v1 who judges; all but m3 have several workers, and some share them.
std::vector<WorkerMember> SimMembers();
const std::vector<std::shared_ptr<const CompiledGraph>>& SimGraphs();

}  // namespace conclave::orchestrator
