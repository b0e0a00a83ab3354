// SPDX-License-Identifier: Apache-2.0
// Resuming a run from what was stored of it: the machine is fed the recorded answers in their order, its events must be
// the recorded ones, and what it then still waits for is dispatched again. Nothing that finished is repeated.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/run/machine.h"

namespace conclave::orchestrator {

// A stored input that is no event.
struct StoredMachineInput {
  int64_t after_sequence_number = 0;  // the last event committed before it
  StoredKind input;
};

struct Resumed {
  std::unique_ptr<Machine> machine;
  // What the record lacks: events to commit (a crash may have cut the last step), then calls to dispatch. Calls that
  // had been cancelled are already given up in here. Output::cancel is empty; wall_time_ns is as at Start, counted from
  // the first recorded event; timers begin anew.
  Output rest;
};

// The input about call number `call` whose outcome the event tells, with what was read from it then; nullopt for an
// event that is not about the end of a call.
std::optional<Input> RecordedInput(const deliberation::v1::Event& event, uint32_t call);

// Replays `events` (from the first, in order; may end anywhere, even be empty) and `inputs`. DATA_LOSS when the machine
// does not reproduce the record: names the first event that differs.
absl::StatusOr<Resumed> Replay(std::shared_ptr<const CompiledGraph> graph, RunSpec spec,
                               std::span<const deliberation::v1::Event> events,
                               std::span<const StoredMachineInput> inputs);

}  // namespace conclave::orchestrator
