// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/run_record.h"

#include <limits>
#include <string>
#include <utility>

#include "common/status.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/stored_run.h"

namespace conclave::orchestrator {

namespace pb = ::conclave::deliberation::v1;

absl::StatusOr<std::vector<pb::Event>> ReadEventPage(const Store& store, std::string_view run_id, int64_t after,
                                                     int64_t count, int64_t bytes) {
  ASSIGN_OR_RETURN(const std::vector<std::string> page, store.ReadEvents(run_id, after, count, bytes));
  std::vector<pb::Event> events;
  events.reserve(page.size());
  for (const std::string& record : page) {
    ASSIGN_OR_RETURN(events.emplace_back(), DecodeEvent(run_id, ++after, record));
  }
  return events;
}

absl::StatusOr<RunRecord> ReadRunRecord(const Store& store, const StoredRun& stored) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  RunRecord record;
  ASSIGN_OR_RETURN(DecodedRun decoded, DecodeRun(stored.run_id, stored.request));
  record.request = std::move(decoded.request);
  record.spec = std::move(decoded.spec);
  ASSIGN_OR_RETURN(const std::string bundle, store.GetGraph(stored.graph_revision));
  ASSIGN_OR_RETURN(record.graph, CompileBundle(bundle));
  ASSIGN_OR_RETURN(record.events, ReadEventPage(store, stored.run_id, 0, kAll, kAll));
  ASSIGN_OR_RETURN(const std::vector<StoredInput> inputs, store.ReadInputs(stored.run_id));
  for (const StoredInput& input : inputs) {
    ASSIGN_OR_RETURN(record.inputs.emplace_back(),
                     DecodeInput(stored.run_id, input.after_sequence_number, input.input));
  }
  return record;
}

}  // namespace conclave::orchestrator
