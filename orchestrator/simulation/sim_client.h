// SPDX-License-Identifier: Apache-2.0
// Somebody who wants one answer and does not give up: starts the run until that is acknowledged, watches it over as
// many connections as it takes, and perhaps cancels it. Says what it saw that must not be.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestrator/run/executor.h"
#include "orchestrator/simulation/sim_witness.h"
#include "orchestrator/simulation/sim_world.h"

namespace conclave::orchestrator {

class SimClient {
 public:
  // What a client knows of the server: the executor that serves now, if any, and which life of it that is.
  struct Server {
    std::function<Executor*()> executor;
    std::function<int64_t()> life;
    const SimWitness* witness;
  };
  SimClient(SimWorld* world, Server server, int32_t number, NewRun run)
      : world_(world), server_(std::move(server)), number_(number), run_(std::move(run)) {}

  // Begins to live.
  void Begin(int64_t after_ns);
  void CancelAfter(int64_t after_ns);
  // Drops its connection then, and comes back.
  void DropAfter(int64_t after_ns);

  // The orchestrator of this life has stopped as one that says so.
  void OnStopped(int64_t life) const;

  // Has seen the run's end.
  bool done() const { return ended_; }
  const NewRun& run() const { return run_; }
  const std::string& run_id() const { return run_id_; }
  const std::string& request_id() const { return run_.request.request_id(); }
  const std::vector<deliberation::v1::Event>& seen() const { return seen_; }
  bool cancel_acknowledged() const { return cancel_acknowledged_; }
  // What was said of the run then; its events' clock.
  deliberation::v1::RunState acknowledged_state() const { return acknowledged_state_; }
  int64_t acknowledged_ns() const { return acknowledged_ns_; }
  bool cancel_asked() const { return cancel_asked_; }
  int64_t connections() const { return connections_; }

 private:
  class Observer;
  void Start();
  void OnStarted(int64_t life, const absl::StatusOr<StartedRun>& started);
  void Watch();
  void Cancel();
  void Look();
  void Again(std::function<void()> what) { world_->After(world_->Between(50, 500) * kSimMs, std::move(what)); }
  void OnEvent(const deliberation::v1::Event& event);
  void OnEnd(const absl::Status& status);
  void Violation(const std::string& what) const {
    server_.witness->Violation("client " + std::to_string(number_) + ": " + what);
  }

  SimWorld* const world_;
  const Server server_;
  const int32_t number_;
  const NewRun run_;
  std::string run_id_;  // "": not acknowledged yet
  int64_t attempts_ = 0, connections_ = 0;
  int64_t life_ = -1;  // of the server that it is connected to
  bool starting_ = false, ended_ = false, cancel_asked_ = false, cancel_acknowledged_ = false;
  deliberation::v1::RunState acknowledged_state_ = deliberation::v1::RUN_STATE_UNSPECIFIED;
  int64_t acknowledged_ns_ = 0;
  std::shared_ptr<Observer> observer_;
  std::vector<deliberation::v1::Event> seen_;
};

}  // namespace conclave::orchestrator
