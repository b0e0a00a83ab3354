// SPDX-License-Identifier: Apache-2.0
// The one connection that writes: batches to transactions. Used by the store's writer thread only.
#pragma once

#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "orchestrator/store/sqlite_db.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

// Belongs to one thread at a time.
class SqliteWriter {
 public:
  // Opens, checks and migrates the file. `pages_max` as in SqliteOptions.
  static absl::StatusOr<std::unique_ptr<SqliteWriter>> Open(const std::string& path, int64_t pages_max);

  // Writes each batch whole or not at all, all of them in one transaction. Results in the order of the batches.
  std::vector<WriteResult> Commit(std::span<const std::vector<WriteOp>* const> batches);

 private:
  struct RunHead {
    int64_t number = 0;
    int64_t last_sequence_number = 0;
    bool finished = false;
  };

  SqliteWriter() = default;
  absl::Status PrepareAll();
  std::vector<WriteResult> CommitTogether(std::span<const std::vector<WriteOp>* const> batches);
  WriteResult ApplyBatch(const std::vector<WriteOp>& batch);
  void RollBack();

  absl::Status Apply(const CreateRun& op, std::string* existing_run_id);
  absl::Status Apply(const AppendEvents& op, std::string* existing_run_id);
  absl::Status Apply(const UpdateRun& op, std::string* existing_run_id);
  absl::Status Apply(const RecordInput& op, std::string* existing_run_id);
  absl::Status Apply(const PutResult& op, std::string* existing_run_id);
  absl::Status Apply(const PutMeta& op, std::string* existing_run_id);
  absl::Status InsertEvent(int64_t run, int64_t sequence_number, const std::string& event);
  // The run, which must be there and unfinished.
  absl::StatusOr<RunHead*> OpenRun(const std::string& run_id);

  Db db_;
  absl::Status dead_;  // after a failed disk nothing is written any more
  // Unfinished runs touched lately; emptied by every rollback, which makes it untrue.
  std::unordered_map<std::string, RunHead> heads_;

  Statement begin_, commit_, savepoint_, release_, rollback_to_;
  Statement insert_graph_, insert_run_, insert_state_, find_request_id_, insert_request_id_;
  Statement find_run_, insert_event_, insert_blob_, insert_event_blob_, update_state_, insert_input_, insert_result_,
      put_meta_;
};

}  // namespace conclave::orchestrator
