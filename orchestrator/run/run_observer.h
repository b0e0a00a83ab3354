// SPDX-License-Identifier: Apache-2.0
// Who listens to a run, in this process or over a connection.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "conclave/deliberation/v1/deliberation.pb.h"

namespace conclave::orchestrator {

// Sees a run's events in order. Called from one thread at a time, of whoever tells (the executor's loop or
// reader, a connection): never block, never call back into it except to unwatch.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  // Committed events in order, from the one asked for, without gap or repeat; between them TokenDelta events
  // (sequence number 0) of calls that stream.
  virtual void OnEvent(const std::shared_ptr<const deliberation::v1::Event>& event) = 0;
  // Last. OK after RunFinished; UNAVAILABLE when the executor stops before; an error when the run cannot be read.
  virtual void OnEnd(const absl::Status& status) = 0;
};

}  // namespace conclave::orchestrator
