// SPDX-License-Identifier: Apache-2.0
// From what a caller asks to a run that an executor takes, the same for every face of the orchestrator.
#pragma once

#include <span>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/run/executor.h"

namespace conclave::orchestrator {

// INVALID_ARGUMENT GRAPH_INVALID, NOT_FOUND GRAPH_NOT_FOUND, or what BuildRunSpec says. `request` is valid
// (validate.h).
absl::StatusOr<NewRun> BuildRun(deliberation::v1::RunRequest request, GraphLibrary* graphs,
                                std::span<const deliberation::v1::Binding> fleet_bindings,
                                std::span<const MemberFacts> members);

}  // namespace conclave::orchestrator
