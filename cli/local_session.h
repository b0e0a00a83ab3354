// SPDX-License-Identifier: Apache-2.0
// A session with a fleet, a store and an executor of its own, in this process.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "cli/session.h"

namespace conclave::cli {

// As Session::Open with a fleet.
absl::StatusOr<std::unique_ptr<Session>> OpenLocalSession(const SessionFlags& flags, orchestrator::LoadedFleet fleet);
// As Session::OpenStored.
absl::StatusOr<std::unique_ptr<Session>> OpenStoredSession(const SessionFlags& flags);

}  // namespace conclave::cli
