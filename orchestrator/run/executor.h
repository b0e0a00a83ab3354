// SPDX-License-Identifier: Apache-2.0
// Drives every run of an orchestrator: one loop thread owns all machines, feeds them answers, commits what they say and
// only then acts on it.
//
// Order of things, for every step of a run: its events are durable before anybody sees them and before the calls they
// announce are dispatched. So whatever was seen happened, and a call whose CallFinished was committed is never made
// again. A call in flight when the process dies is made again, with the same seed.
//
// RPC handlers and the command line use the same API. Every method is thread-safe and returns at once, except those
// marked "blocks", which read the store.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/run/machine.h"
#include "orchestrator/run/run_observer.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

struct ExecutorOptions {
  Store* store = nullptr;      // outlives the executor
  Backend* backend = nullptr;  // outlives the executor
  const Clock* clock = &Clock::System();
  int32_t active_runs_max = 1024;  // more are refused with RESOURCE_EXHAUSTED OVERLOADED
  // Called once, from the loop, when the store can no longer be written: the process should end and start again. The
  // runs stay as they are.
  std::function<void(const absl::Status&)> on_fatal = {};
  // No threads: everything happens inside Step, so that what happens depends on the caller alone. For simulations.
  bool stepped = false;
};

struct NewRun {
  std::shared_ptr<const CompiledGraph> graph;
  RunSpec spec;                          // run_id empty: one is made
  deliberation::v1::RunRequest request;  // for its id and hash, and to be shown; its graph is not stored again
};

struct StartedRun {
  std::string run_id;
  bool existing = false;  // the request id began it earlier; it may have ended
};

class Executor {
 public:
  // Resumes every unfinished run of the store first. DATA_LOSS and the like of the store itself only: a run that does
  // not replay ends as FAILED DATA_LOSS; one whose members are not here now stays unfinished (see Parked).
  static absl::StatusOr<std::unique_ptr<Executor>> Start(const ExecutorOptions& options);
  // Stop, then waits for what the backend still owes.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // ---- Runs
  // `done` runs on the loop once the run is durable, or with why it is not: INVALID_ARGUMENT from the machine,
  // ALREADY_EXISTS REQUEST_ID_REUSED, RESOURCE_EXHAUSTED OVERLOADED or STORE_FULL. `observer` may be null; it watches a
  // new run from its first event; with `existing`, watch again.
  void StartRun(NewRun run, std::shared_ptr<RunObserver> observer,
                std::function<void(absl::StatusOr<StartedRun>)> done);
  // `done` runs once the cancellation is durable, with the run's state then. Cancelling an ended run changes nothing.
  // NOT_FOUND RUN_NOT_FOUND.
  void CancelRun(std::string run_id, std::function<void(absl::StatusOr<deliberation::v1::RunState>)> done);
  // The run now; blocks for one that is not active.
  void GetRun(std::string run_id, std::function<void(absl::StatusOr<deliberation::v1::Run>)> done);

  // ---- Watching
  // Replays events after a number, then follows. Replaying does not wait for a slow observer: one with a bound of its
  // own pulls with ReadEvents and then attaches.
  void Watch(std::string run_id, int64_t after_sequence_number, bool stream_tokens,
             std::shared_ptr<RunObserver> observer);
  enum class Attached : uint8_t {
    kYes,      // the observer sees what comes after the number
    kBehind,   // more is committed by now: read it and try again
    kNotHere,  // not active: what the store holds is all
  };
  void Attach(std::string run_id, int64_t after_sequence_number, bool stream_tokens,
              std::shared_ptr<RunObserver> observer, std::function<void(Attached)> done);
  // The observer hears nothing after `done`, or soon after without one.
  void Unwatch(std::shared_ptr<RunObserver> observer, std::function<void()> done = nullptr);

  // ---- Reading the store. All of these block.
  // At most `count` events after a number; stops once `bytes` are reached, but returns at least one if there is one.
  absl::StatusOr<std::vector<deliberation::v1::Event>> ReadEvents(
      std::string_view run_id, int64_t after_sequence_number, int64_t count,
      int64_t bytes = std::numeric_limits<int64_t>::max()) const;
  // Newest first; runs whose StoredRun::number is below `before_number`, or all when it is 0.
  struct ListedRun {
    int64_t number = 0;
    deliberation::v1::Run run;
  };
  absl::StatusOr<std::vector<ListedRun>> ListRuns(int64_t before_number, int64_t count) const;
  // For a run that is not active and stores nothing after a number: OK when it has ended there, OUT_OF_RANGE when that
  // number was never given, UNAVAILABLE when the run is parked.
  absl::Status WhyNothingFollows(std::string_view run_id, int64_t sequence_number) const;
  // NOT_FOUND: no run was begun under that request id.
  absl::StatusOr<StoredRun> FindRequest(std::string_view request_id) const;
  // Runs `read` on the executor's reader thread, for callers that must not block.
  void OnReader(std::function<void()> read);

  // ---- The whole
  struct Counts {
    int32_t active_runs = 0;
    int32_t calls_in_flight = 0;
  };
  Counts counts() const;
  // Unfinished runs that could not be resumed, and why. Cancelling one ends it.
  std::vector<std::pair<std::string, absl::Status>> Parked() const;
  // Dispatches nothing more, cancels calls in flight, tells observers UNAVAILABLE. Runs stay unfinished and go on at
  // the next start. Twice is once. Blocks until all calls have ended.
  void Stop();
  // Looks at the clock now; for clocks that are moved by hand.
  void Poke();

  // ---- A stepped executor (ExecutorOptions::stepped). All calls, callbacks of store and backend included, come from
  // one thread. Stop only asks; step on until stopped(). Destroyed without that, it is like a process that dies: what
  // is queued never happens, and observers hear no end. Runs what is queued and the timers that are due. False: there
  // was nothing to do.
  bool Step();
  // Time until a timer is due; -1: none is set.
  int64_t NextWakeNs() const;
  bool stopped() const;

 private:
  class Impl;
  explicit Executor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::orchestrator
