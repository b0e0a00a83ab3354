// SPDX-License-Identifier: Apache-2.0
// Durable state of an orchestrator: runs, their events, graphs, idempotency keys, experiment results.
//
// A write is a batch of operations that happens whole or not at all; its callback runs after the batch is durable, so
// whoever waits for it may tell the world. Reads see what is durable. See specs of the SQLite form in sqlite_store.h.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::orchestrator {

// ---- Limits, tested at the limit and one above.
inline constexpr int64_t kEventsPerRunMax = 100'000;
inline constexpr int64_t kEventBytesMax = 4 << 20;
inline constexpr int64_t kBlobThresholdBytes = 64 << 10;  // larger payloads go to the blob table, by content
inline constexpr int64_t kRequestIdBytesMax = 64;
inline constexpr int64_t kListPageMax = 1'000;

// ---- Operations of a batch.

// A new run. With a request id seen before: if the payload hash is the same nothing is written and
// WriteResult::existing_run_id names the first run; otherwise ALREADY_EXISTS REQUEST_ID_REUSED.
struct CreateRun {
  std::string run_id = {};
  std::string request = {};         // what the caller asked, for resume; opaque here
  std::string graph_revision = {};  // "" or 64 hex digits
  std::string graph = {};           // canonical bytes, stored once per revision
  std::string request_id = {};      // "": no idempotency
  std::string request_hash = {};
  int64_t create_unix_ns = 0;
  std::string summary = {};  // opaque; shown by listings
};
// Consecutive events of one run. The first number must follow the run's last one: a gap or repeat is
// FAILED_PRECONDITION and nothing of the batch is written.
struct AppendEvents {
  std::string run_id = {};
  int64_t first_sequence_number = 1;
  std::vector<std::string> events = {};  // opaque
};
// A run's summary; `finished` is final: a later update or append is FAILED_PRECONDITION.
struct UpdateRun {
  std::string run_id = {};
  std::string summary = {};
  bool finished = false;
};
// A request from outside that decides how the run goes on (a cancellation, a timer): replay needs to know after which
// event it was taken. FAILED_PRECONDITION where that event is not stored.
struct RecordInput {
  std::string run_id = {};
  int64_t after_sequence_number = 0;
  std::string input = {};  // opaque
};
// One outcome of an experiment. A second one for the same (arm, item, replicate) is ALREADY_EXISTS.
struct PutResult {
  std::string arm = {};
  std::string item = {};
  int32_t replicate = 0;
  std::string run_id = {};  // "": answered without a stored run
  std::string payload = {};
};
struct PutMeta {
  std::string key = {};
  std::string value = {};
};
using WriteOp = std::variant<CreateRun, AppendEvents, UpdateRun, RecordInput, PutResult, PutMeta>;

struct WriteResult {
  // RESOURCE_EXHAUSTED STORE_FULL: nothing was written, the same batch may be tried again when there is room.
  // DATA_LOSS: the disk failed; nothing more can be written and the process should end and recover.
  absl::Status status = {};
  std::string existing_run_id = {};
  std::vector<WriteOp> batch = {};  // given back when it was not written, so that it can be tried again
};
using WriteDone = std::function<void(WriteResult)>;

// ---- Reads.

struct StoredRun {
  int64_t number = 0;  // order of creation, the page cursor of ListRuns
  std::string run_id = {};
  std::string request = {};
  std::string graph_revision = {};
  int64_t create_unix_ns = 0;
  int64_t last_sequence_number = 0;
  bool finished = false;
  std::string summary = {};
};
struct StoredInput {
  int64_t after_sequence_number = 0;
  std::string input = {};
};
struct StoredResult {
  std::string arm = {};
  std::string item = {};
  int32_t replicate = 0;
  std::string run_id = {};
  std::string payload = {};
};

// Thread-safe. Reads may touch the disk: never from a gRPC reaction or the loop thread once it runs.
class Store {
 public:
  virtual ~Store() = default;  // waits for the writes accepted so far

  // Never blocks. Batches become durable in the order of the calls; `done` runs on the store's own thread in that
  // order and must not block.
  virtual void Write(std::vector<WriteOp> batch, WriteDone done) = 0;

  virtual absl::StatusOr<StoredRun> GetRun(std::string_view run_id) const = 0;
  // Newest first; runs whose number is below `before_number`, or all when it is 0.
  virtual absl::StatusOr<std::vector<StoredRun>> ListRuns(int64_t before_number, int64_t count) const = 0;
  // In the order of creation.
  virtual absl::StatusOr<std::vector<StoredRun>> UnfinishedRuns() const = 0;
  // Events after a number, in order; stops after `count` events or once `bytes` are reached (at least one event).
  virtual absl::StatusOr<std::vector<std::string>> ReadEvents(std::string_view run_id, int64_t after_sequence_number,
                                                              int64_t count, int64_t bytes) const = 0;
  // In the order recorded.
  virtual absl::StatusOr<std::vector<StoredInput>> ReadInputs(std::string_view run_id) const = 0;
  // The run that a request id began. NOT_FOUND: none.
  virtual absl::StatusOr<StoredRun> FindRequest(std::string_view request_id) const = 0;
  virtual absl::StatusOr<std::string> GetGraph(std::string_view revision) const = 0;
  // Ordered by (arm, item, replicate). The visitor may end the walk by an error, which is returned.
  virtual absl::Status ReadResults(const std::function<absl::Status(const StoredResult&)>& visit) const = 0;
  // Absent: nullopt.
  virtual absl::StatusOr<std::optional<std::string>> GetMeta(std::string_view key) const = 0;
};

// Write and wait, for set-up code and tests.
WriteResult WriteAndWait(Store* store, std::vector<WriteOp> batch);

}  // namespace conclave::orchestrator
