// SPDX-License-Identifier: Apache-2.0
// What an experiment needs of whoever runs deliberations: the executor in production, a fake in tests.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"

namespace conclave::experiment {

// A finished run with everything that was committed.
struct RunRecord {
  std::vector<deliberation::v1::Event> events;  // from the first to RunFinished, in order
  double seconds = 0;                           // RunStarted to RunFinished
};

class Deliberator {
 public:
  virtual ~Deliberator() = default;

  // Starts the run named by request.request_id, or finds the one started under it before, finished or not; so a run is
  // done once however often an experiment is resumed. `done` is called once, on any thread, when the run has ended (its
  // own failure is a RunFinished, not an error here) or could not be started.
  virtual void Start(const deliberation::v1::RunRequest& request, std::function<void(absl::Status)> done) = 0;

  // A finished run, by its request id. NOT_FOUND, or FAILED_PRECONDITION while it runs. Any thread.
  virtual absl::StatusOr<RunRecord> Read(const std::string& request_id) = 0;

  // Ends what is running; it is not lost, a later Start goes on with it.
  virtual void Stop() = 0;
};

}  // namespace conclave::experiment
