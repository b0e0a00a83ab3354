// SPDX-License-Identifier: Apache-2.0
// A fleet brought to life: its workers started, its recordings read, and one backend over all members.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/fleet/fleet_file.h"

namespace conclave::orchestrator {

struct LaunchOptions {
  std::string worker_binary;  // conclave-worker
  int32_t cores = 1;          // shared by the workers that name no thread count
  int64_t start_timeout_ns = 120'000'000'000;
  int64_t connect_timeout_ns = 5'000'000'000;  // to workers that serve, those that were started and those that were not
  int restarts_max = 3;                        // of one worker that dies
  std::string log_level = "warn";
  // The value of an environment variable, "" where it is not set: members name those that hold their keys.
  std::function<std::string(const std::string&)> variable = {};
  // Told in a sentence that a worker ended unasked, and what is done about it. On a thread of the fleet.
  std::function<void(const std::string&)> on_worker_end = {};
};

// A worker process that a fleet started.
struct LaunchedWorker {
  std::string address;  // host:port
  std::string model_path;
  std::vector<std::string> members;  // served by it
  pid_t pid = 0;
};

// Thread-safe after Launch. Workers that die are started again at the same address, a few times; all are stopped by the
// destructor, and by the kernel should this process be killed.
class LaunchedFleet {
 public:
  // Members with the same model settings share workers: as many processes as the largest `replicas` among them says.
  // Errors of a model file keep their code and are named after the member. Blocks until everything serves.
  static absl::StatusOr<std::unique_ptr<LaunchedFleet>> Launch(const LoadedFleet& fleet, const LaunchOptions& options);
  ~LaunchedFleet();
  LaunchedFleet(const LaunchedFleet&) = delete;
  LaunchedFleet& operator=(const LaunchedFleet&) = delete;

  // All members in the fleet's order. Lives as long as this.
  Backend& backend();
  std::vector<LaunchedWorker> workers() const;

 private:
  class Impl;
  explicit LaunchedFleet(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::orchestrator
