// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/run_record.h"

#include <google/protobuf/util/time_util.h>

#include <limits>
#include <string>
#include <utility>

#include "common/status.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/ledger/budget.h"
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

std::vector<WriteOp> EndWithoutMachine(const Store& store, const StoredRun& stored, pb::RunState state,
                                       const absl::Status& why, int64_t unix_ns) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  pb::Event event;
  event.set_sequence_number(stored.last_sequence_number + 1);
  event.set_run_id(stored.run_id);
  *event.mutable_time() = google::protobuf::util::TimeUtil::NanosecondsToTimestamp(unix_ns);
  pb::RunFinished* const finished = event.mutable_run_finished();
  finished->set_state(state);
  finished->set_code(static_cast<int32_t>(why.code()));
  finished->set_message(std::string(Message(why)));
  // Events that cannot be read are no work that anybody knows of.
  if (const auto events = ReadEventPage(store, stored.run_id, 0, kAll, kAll); events.ok()) {
    for (const pb::Event& e : *events) {
      if (e.has_call_finished()) {
        AddToLedger(e.call_finished().usage(), false, e.call_finished().estimated(), finished->mutable_ledger());
      } else if (e.has_call_lost()) {
        AddToLedger(e.call_lost().usage(), true, true, finished->mutable_ledger());
      }
    }
  }
  pb::Run summary;
  summary.ParseFromString(stored.summary);
  summary.set_run_id(stored.run_id);
  summary.set_state(state);
  summary.set_last_sequence_number(event.sequence_number());
  *summary.mutable_end_time() = event.time();
  summary.set_message(finished->message());
  *summary.mutable_ledger() = finished->ledger();
  return {AppendEvents{stored.run_id, event.sequence_number(), {EncodeEvent(event)}},
          UpdateRun{stored.run_id, summary.SerializeAsString(), /*finished=*/true}};
}

}  // namespace conclave::orchestrator
