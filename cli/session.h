// SPDX-License-Identifier: Apache-2.0
// Who runs deliberations for a command: a fleet started for its length in this process, or an orchestrator that already
// serves.
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
#include "orchestrator/run/executor.h"
#include "orchestrator/run/run_observer.h"
#include "protos/rpc_endpoint.h"

namespace conclave::cli {

// Names an orchestrator for every command that is given none.
inline constexpr char kOrchestratorVariable[] = "CONCLAVE_ORCHESTRATOR";

// --orchestrator and the --tls-* files that reach it.
struct OrchestratorFlags {
  std::string address;
  rpc::TlsFiles tls;

  // Returns the option of the address, for what excludes it.
  CLI::Option* Add(CLI::App* command);
};

// --fleet, --model, --graphs, --worker-binary, --orchestrator.
struct SessionFlags {
  std::string fleet;               // file
  std::string model;               // or one GGUF file or Hugging Face directory in every seat
  OrchestratorFlags orchestrator;  // or who already serves
  std::string graphs;              // directory of shipped graphs and roles
  std::string worker_binary;       // conclave-worker
  std::string store;               // SQLite file; "": a temporary one
  std::vector<deliberation::v1::RunRequest> requests_needed;  // by graph name and seats, before anything is started

  void Add(CLI::App* command, bool with_store);
  // Somebody to ask was named who is started for the length of the command.
  bool HasMembers() const { return !fleet.empty() || !model.empty(); }
  // The orchestrator named by flag or, where neither fleet nor model is, by the environment; "": none.
  std::string OrchestratorAddress() const;
};

// True after SIGINT or SIGTERM; a second one ends the process. Call once, before threads.
const std::atomic<bool>& StopFlag();

class QueueObserver;  // cli/session_observers.h

class Session {
 public:
  // Starts what the fleet needs, or connects to the orchestrator named, and says so on stderr. Errors of files keep
  // their place.
  static absl::StatusOr<std::unique_ptr<Session>> Open(const SessionFlags& flags);
  static absl::StatusOr<std::unique_ptr<Session>> Open(const SessionFlags& flags, orchestrator::LoadedFleet fleet);
  // What is stored only: nothing can be run.
  static absl::StatusOr<std::unique_ptr<Session>> OpenStored(const SessionFlags& flags);
  virtual ~Session() = default;

  // Runs one deliberation; `on_event` sees its events in order on one thread, TokenDelta among them. Returns the last
  // event. A true `stop` cancels the run, which then still ends with its last event.
  absl::StatusOr<deliberation::v1::RunFinished> Run(const deliberation::v1::RunRequest& request,
                                                    const std::function<void(const deliberation::v1::Event&)>& on_event,
                                                    const std::atomic<bool>& stop);
  // The same for a run that is made already, and for one that is in the store: after its events so far.
  absl::StatusOr<deliberation::v1::RunFinished> RunPrepared(
      orchestrator::NewRun run, const std::function<void(const deliberation::v1::Event&)>& on_event,
      const std::atomic<bool>& stop);
  absl::StatusOr<deliberation::v1::RunFinished> Follow(
      const std::string& run_id, const std::function<void(const deliberation::v1::Event&)>& on_event,
      const std::atomic<bool>& stop);
  virtual experiment::Deliberator& deliberator() = 0;

 protected:
  // Begins a run whose events and end the observer hears; an error is an end, too.
  virtual void Begin(const deliberation::v1::RunRequest& request,
                     std::shared_ptr<orchestrator::RunObserver> observer) = 0;
  virtual void Cancel(const std::string& run_id) = 0;
  // Of sessions of this process only; others end the observer with UNIMPLEMENTED.
  virtual void BeginPrepared(orchestrator::NewRun run, std::shared_ptr<orchestrator::RunObserver> observer);
  virtual void Watch(const std::string& run_id, std::shared_ptr<orchestrator::RunObserver> observer);

 private:
  absl::StatusOr<deliberation::v1::RunFinished> Await(
      QueueObserver* observer, const std::function<void(const deliberation::v1::Event&)>& on_event,
      const std::atomic<bool>& stop);
};

// "ROLE=MEMBER,MEMBER" of --bind. INVALID_ARGUMENT names the argument.
absl::StatusOr<deliberation::v1::Binding> ParseBinding(const std::string& argument);

// The directory of this program's binary, e.g. to find conclave-worker beside it.
std::string BinaryDirectory();

// Shipped graphs: beside an installed binary (../share/conclave/graphs), else the checkout this was built from.
std::string DefaultGraphsDirectory();

}  // namespace conclave::cli
