// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/copy_runs.h"

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

constexpr int64_t kEventsAtATime = 1'000;
constexpr int64_t kBytesAtATime = int64_t{16} << 20;
constexpr size_t kOpsPerBatch = 256;

// Adds the operations that make the run to `batch`.
absl::Status ReadRun(const Store& from, const StoredRun& run, const AskedRequest& asked, std::vector<WriteOp>* batch) {
  CreateRun create;
  create.run_id = run.run_id;
  create.request = run.request;
  create.graph_revision = run.graph_revision;
  if (!run.graph_revision.empty()) {
    ASSIGN_OR_RETURN(create.graph, from.GetGraph(run.graph_revision));
  }
  create.request_id = asked.id;
  create.request_hash = asked.hash;
  create.create_unix_ns = run.create_unix_ns;
  create.summary = run.summary;
  batch->push_back(std::move(create));
  for (int64_t after = 0; after < run.last_sequence_number;) {
    AppendEvents append{.run_id = run.run_id, .first_sequence_number = after + 1};
    ASSIGN_OR_RETURN(append.events, from.ReadEvents(run.run_id, after, kEventsAtATime, kBytesAtATime));
    if (append.events.empty()) return DataLoss("run {}: event {} is missing", run.run_id, after + 1);
    after += static_cast<int64_t>(append.events.size());
    batch->push_back(std::move(append));
  }
  ASSIGN_OR_RETURN(const std::vector<StoredInput> inputs, from.ReadInputs(run.run_id));
  for (const StoredInput& input : inputs) {
    batch->push_back(RecordInput{run.run_id, input.after_sequence_number, input.input});
  }
  batch->push_back(UpdateRun{run.run_id, run.summary, /*finished=*/true});
  return absl::OkStatus();
}

absl::Status Flush(Store* to, std::vector<WriteOp>* batch) {
  const WriteResult result = WriteAndWait(to, std::move(*batch));
  batch->clear();
  RETURN_IF_ERROR(result.status);
  if (result.existing_run_id.empty()) return absl::OkStatus();
  return AlreadyExists("run {}: is there already", result.existing_run_id);
}

}  // namespace

absl::Status CopyFinishedRuns(const Store& from, std::span<const AskedRequest> requests, Store* to) {
  std::vector<WriteOp> batch;
  for (const AskedRequest& asked : requests) {
    const auto run = from.FindRequest(asked.id);
    if (absl::IsNotFound(run.status())) return FailedPrecondition("request {}: no run was begun for it", asked.id);
    RETURN_IF_ERROR(run.status());
    if (!run->finished) return FailedPrecondition("request {}: its run {} has not ended", asked.id, run->run_id);
    RETURN_IF_ERROR(ReadRun(from, *run, asked, &batch));
    if (batch.size() >= kOpsPerBatch) RETURN_IF_ERROR(Flush(to, &batch));
  }
  return batch.empty() ? absl::OkStatus() : Flush(to, &batch);
}

}  // namespace conclave::orchestrator
