// SPDX-License-Identifier: Apache-2.0
// What a store holds of one run, read and decoded: enough to resume it, to look at it, to repeat it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/run/machine.h"
#include "orchestrator/run/replay.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

struct RunRecord {
  deliberation::v1::RunRequest request;  // as stored: without its graph's source
  RunSpec spec;
  std::shared_ptr<const CompiledGraph> graph;
  std::vector<deliberation::v1::Event> events;  // from 1, without a gap
  std::vector<StoredMachineInput> inputs;       // in the order taken
};

// Reads the store: blocks. DATA_LOSS for what no version wrote.
absl::StatusOr<RunRecord> ReadRunRecord(const Store& store, const StoredRun& stored);

// At most `count` events after a number; stops once `bytes` are reached, but returns at least one if there is one.
absl::StatusOr<std::vector<deliberation::v1::Event>> ReadEventPage(const Store& store, std::string_view run_id,
                                                                   int64_t after, int64_t count, int64_t bytes);

// Ends a run that no machine ends: its last event, with the work that is recorded, and its listing.
std::vector<WriteOp> EndWithoutMachine(const Store& store, const StoredRun& stored, deliberation::v1::RunState state,
                                       const absl::Status& why, int64_t unix_ns);

}  // namespace conclave::orchestrator
