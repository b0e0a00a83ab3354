// SPDX-License-Identifier: Apache-2.0
// Who runs deliberations for a command: a fleet and an executor started for its length, in this process.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/experiment/deliberator.h"
#include "orchestrator/fleet/fleet_file.h"

namespace conclave::cli {

// --fleet, --model, --graphs, --worker-binary.
struct SessionFlags {
  std::string fleet;                       // file
  std::string model;                       // or one GGUF file in every seat
  std::string graphs;                      // directory of shipped graphs and roles
  std::string worker_binary;               // conclave-worker
  std::string store;                       // SQLite file; "": a temporary one
  std::vector<std::string> graphs_needed;  // checked before anything is started

  void Add(CLI::App* command, bool with_store);
};

// True after SIGINT or SIGTERM; a second one ends the process. Call once, before threads.
const std::atomic<bool>& StopFlag();

class Session {
 public:
  // Starts what the fleet needs, and says so on stderr. Errors of files keep their place.
  static absl::StatusOr<std::unique_ptr<Session>> Open(const SessionFlags& flags);
  static absl::StatusOr<std::unique_ptr<Session>> Open(const SessionFlags& flags, orchestrator::LoadedFleet fleet);
  // What is stored only: nothing can be run.
  static absl::StatusOr<std::unique_ptr<Session>> OpenStored(const SessionFlags& flags);
  ~Session();

  // Runs one deliberation; `on_event` sees its events in order on one thread, TokenDelta among them. Returns the last
  // event. A true `stop` cancels the run, which then still ends with its last event.
  absl::StatusOr<deliberation::v1::RunFinished> Run(const deliberation::v1::RunRequest& request,
                                                    const std::function<void(const deliberation::v1::Event&)>& on_event,
                                                    const std::atomic<bool>& stop);
  experiment::Deliberator& deliberator();
  // "a, b, c and 3 more"; for messages.
  std::string Members() const;

 private:
  class Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// "ROLE=MEMBER,MEMBER" of --bind. INVALID_ARGUMENT names the argument.
absl::StatusOr<deliberation::v1::Binding> ParseBinding(const std::string& argument);

// The directory of this program's binary, e.g. to find conclave-worker beside it.
std::string BinaryDirectory();

// Shipped graphs: beside an installed binary (../share/conclave/graphs), else the checkout this was built from.
std::string DefaultGraphsDirectory();

}  // namespace conclave::cli
