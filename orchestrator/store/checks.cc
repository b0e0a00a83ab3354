// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/store/checks.h"

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

absl::Status Check(const CreateRun& op) {
  if (op.run_id.empty()) return InvalidArgument("a run needs an id");
  if (static_cast<int64_t>(op.request_id.size()) > kRequestIdBytesMax) {
    return InvalidArgument("request id of {} bytes, at most {}", op.request_id.size(), kRequestIdBytesMax);
  }
  return absl::OkStatus();
}

absl::Status Check(const AppendEvents& op) {
  const int64_t last = op.first_sequence_number + static_cast<int64_t>(op.events.size()) - 1;
  if (op.first_sequence_number < 1 || last > kEventsPerRunMax) {
    return ResourceExhausted("EVENT_LIMIT: run {}: events {} to {}; a run holds at most {}", op.run_id,
                             op.first_sequence_number, last, kEventsPerRunMax);
  }
  for (size_t i = 0; i < op.events.size(); ++i) {
    if (static_cast<int64_t>(op.events[i].size()) <= kEventBytesMax) continue;
    return ResourceExhausted("EVENT_LIMIT: run {}: event {} of {} bytes, at most {}", op.run_id,
                             op.first_sequence_number + static_cast<int64_t>(i), op.events[i].size(), kEventBytesMax);
  }
  return absl::OkStatus();
}

absl::Status Check(const RecordInput& op) {
  if (op.after_sequence_number >= 0) return absl::OkStatus();
  return InvalidArgument("run {}: input after event {}", op.run_id, op.after_sequence_number);
}

absl::Status Check(const PutResult& op) {
  if (!op.arm.empty() && !op.item.empty() && op.replicate >= 0) return absl::OkStatus();
  return InvalidArgument("result (\"{}\", \"{}\", {}) needs an arm, an item and a replicate from 0", op.arm, op.item,
                         op.replicate);
}

absl::Status Check(const UpdateRun&) { return absl::OkStatus(); }
absl::Status Check(const PutMeta&) { return absl::OkStatus(); }

}  // namespace

absl::Status CheckBatch(std::span<const WriteOp> batch) {
  for (const WriteOp& op : batch) {
    RETURN_IF_ERROR(std::visit([](const auto& o) { return Check(o); }, op));
  }
  return absl::OkStatus();
}

absl::Status NoSuchRun(std::string_view run_id) { return NotFound("RUN_NOT_FOUND: no run \"{}\" here", run_id); }
absl::Status NoSuchRequest(std::string_view request_id) {
  return NotFound("RUN_NOT_FOUND: request id \"{}\" began no run here", request_id);
}
absl::Status RequestIdReused(std::string_view request_id, std::string_view run_id) {
  return AlreadyExists("REQUEST_ID_REUSED: request id \"{}\" began run {} with another payload; choose a new id",
                       request_id, run_id);
}
absl::Status RunIsFinished(std::string_view run_id) {
  return FailedPrecondition("RUN_FINISHED: run {} has ended and takes no more events", run_id);
}
absl::Status WrongSequence(std::string_view run_id, int64_t found, int64_t expected) {
  return FailedPrecondition("run {}: event {} does not follow the last one; {} must come next", run_id, found,
                            expected);
}
absl::Status InputBeforeItsEvent(std::string_view run_id, int64_t after, int64_t last) {
  return FailedPrecondition("run {}: an input after event {}, where {} is the last that is stored", run_id, after,
                            last);
}
absl::Status DuplicateResult(const PutResult& result) {
  return AlreadyExists("RESULT_EXISTS: arm \"{}\", item \"{}\", replicate {} has its result already", result.arm,
                       result.item, result.replicate);
}
absl::Status DuplicateRun(std::string_view run_id) { return AlreadyExists("run {} exists already", run_id); }

}  // namespace conclave::orchestrator
