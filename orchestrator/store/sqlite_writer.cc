// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/store/sqlite_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/store/checks.h"
#include "orchestrator/store/sqlite_schema.h"

namespace conclave::orchestrator {
namespace {

constexpr size_t kHeadsMax = 4096;

absl::Status CheckWhole(Db* db) {
  ASSIGN_OR_RETURN(const std::string verdict, db->QueryText("PRAGMA quick_check(1)"));
  if (verdict == "ok") return absl::OkStatus();
  return DataLoss("STORE_CORRUPT: {}: {}; restore a copy or move the file away", db->path(), verdict);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteWriter>> SqliteWriter::Open(const std::string& path, int64_t pages_max) {
  // SQLite gives its other files the main file's mode; prompts are nobody else's business.
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (fd >= 0) close(fd);

  std::unique_ptr<SqliteWriter> out(new SqliteWriter);
  ASSIGN_OR_RETURN(out->db_, Db::Open(path, SQLITE_OPEN_READWRITE));
  Db* db = &out->db_;
  RETURN_IF_ERROR(db->Exec("PRAGMA mmap_size = 0"));  // a failing disk must be an error, not a SIGBUS
  RETURN_IF_ERROR(db->Exec("PRAGMA busy_timeout = 5000"));
  ASSIGN_OR_RETURN(const std::string mode, db->QueryText("PRAGMA journal_mode = WAL"));
  if (mode != "wal") return FailedPrecondition("{}: journal mode stays \"{}\", WAL is needed", path, mode);
  RETURN_IF_ERROR(db->Exec("PRAGMA synchronous = FULL"));
  RETURN_IF_ERROR(db->Exec("PRAGMA foreign_keys = ON"));
  RETURN_IF_ERROR(CheckWhole(db));
  RETURN_IF_ERROR(Migrate(db));
  if (pages_max > 0) {
    RETURN_IF_ERROR(db->QueryInt(fmt::format("PRAGMA max_page_count = {}", pages_max)).status());
  }
  RETURN_IF_ERROR(out->PrepareAll());
  return out;
}

absl::Status SqliteWriter::PrepareAll() {
  const std::pair<Statement*, std::string_view> statements[] = {
      {&begin_, "BEGIN IMMEDIATE"},
      {&commit_, "COMMIT"},
      {&savepoint_, "SAVEPOINT batch"},
      {&release_, "RELEASE batch"},
      {&rollback_to_, "ROLLBACK TO batch"},
      {&insert_graph_, "INSERT INTO graph(revision, body) VALUES (?1, ?2) ON CONFLICT DO NOTHING"},
      {&insert_run_,
       "INSERT INTO run(run_id, request, graph_revision, create_unix_ns) VALUES (?1, ?2, ?3, ?4) "
       "ON CONFLICT DO NOTHING RETURNING number"},
      {&insert_state_, "INSERT INTO run_state(run, finished, summary) VALUES (?1, 0, ?2)"},
      {&find_request_id_,
       "SELECT hash, run_id FROM request_id JOIN run ON run.number = request_id.run WHERE request_id = ?1"},
      {&insert_request_id_, "INSERT INTO request_id(request_id, hash, run) VALUES (?1, ?2, ?3)"},
      {&find_run_,
       "SELECT number, finished, (SELECT coalesce(max(seq), 0) FROM event WHERE event.run = number) "
       "FROM run JOIN run_state ON run_state.run = number WHERE run_id = ?1"},
      {&insert_event_, "INSERT INTO event(run, seq, body) VALUES (?1, ?2, ?3)"},
      {&insert_blob_, "INSERT INTO blob(sha256, body) VALUES (?1, ?2) ON CONFLICT DO NOTHING"},
      {&insert_event_blob_, "INSERT INTO event(run, seq, sha256) VALUES (?1, ?2, ?3)"},
      {&update_state_, "UPDATE run_state SET finished = ?2, summary = ?3 WHERE run = ?1"},
      {&insert_input_, "INSERT INTO input(run, after_seq, body) VALUES (?1, ?2, ?3)"},
      {&insert_result_,
       "INSERT INTO result(arm, item, replicate, run_id, payload) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING "
       "RETURNING 1"},
      {&put_meta_, "INSERT INTO meta(key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value"},
  };
  for (const auto& [statement, sql] : statements) {
    ASSIGN_OR_RETURN(*statement, db_.Prepare(sql));
  }
  return absl::OkStatus();
}

std::vector<WriteResult> SqliteWriter::Commit(std::span<const std::vector<WriteOp>* const> batches) {
  std::vector<WriteResult> results = CommitTogether(batches);
  if (batches.size() <= 1) return results;
  bool together = true;
  for (const WriteResult& result : results) together &= result.status.code() != absl::StatusCode::kResourceExhausted;
  if (together) return results;
  // The disk has no room for all of them, perhaps for the first ones: each alone, in order.
  results.clear();
  for (const std::vector<WriteOp>* batch : batches) results.push_back(CommitTogether(std::span(&batch, 1)).front());
  return results;
}

std::vector<WriteResult> SqliteWriter::CommitTogether(std::span<const std::vector<WriteOp>* const> batches) {
  std::vector<WriteResult> results(batches.size());
  const auto fail_all = [&](const absl::Status& status) {
    RollBack();
    if (status.code() == absl::StatusCode::kDataLoss) dead_ = status;
    for (WriteResult& result : results) result = {.status = status};
  };
  if (!dead_.ok()) {
    fail_all(dead_);
    return results;
  }
  if (absl::Status status = begin_.Run("begin"); !status.ok()) {
    fail_all(status);
    return results;
  }
  for (size_t i = 0; i < batches.size(); ++i) {
    results[i] = ApplyBatch(*batches[i]);
    // A batch that broke a rule was undone alone; one that broke the transaction takes all of it along.
    const absl::StatusCode code = results[i].status.code();
    const bool limit = Message(results[i].status).starts_with("EVENT_LIMIT");
    if (code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kInternal || !db_.InTransaction() ||
        (code == absl::StatusCode::kResourceExhausted && !limit)) {
      fail_all(results[i].status);
      return results;
    }
  }
  if (absl::Status status = commit_.Run("commit"); !status.ok()) fail_all(status);
  return results;
}

void SqliteWriter::RollBack() {
  heads_.clear();
  if (db_.InTransaction()) db_.Exec("ROLLBACK").IgnoreError();
}

WriteResult SqliteWriter::ApplyBatch(const std::vector<WriteOp>& batch) {
  WriteResult result;
  result.status = CheckBatch(batch);
  if (!result.status.ok()) return result;
  result.status = savepoint_.Run("savepoint");
  if (!result.status.ok()) return result;
  for (const WriteOp& op : batch) {
    result.status = std::visit([&](const auto& o) { return Apply(o, &result.existing_run_id); }, op);
    if (!result.status.ok() || !result.existing_run_id.empty()) break;
  }
  if (!result.status.ok() && db_.InTransaction()) {
    heads_.clear();
    if (absl::Status undone = rollback_to_.Run("undo"); !undone.ok()) result.status = undone;
  }
  if (db_.InTransaction()) {
    if (absl::Status released = release_.Run("release"); !released.ok()) result.status = released;
  }
  return result;
}

absl::Status SqliteWriter::Apply(const CreateRun& op, std::string* existing_run_id) {
  if (!op.request_id.empty()) {
    const ResetOnExit reset(&find_request_id_);
    find_request_id_.BindText(1, op.request_id);
    ASSIGN_OR_RETURN(const bool found, find_request_id_.Step("find request id"));
    if (found) {
      const std::string run_id = find_request_id_.Bytes(1);
      if (find_request_id_.Bytes(0) != op.request_hash) return RequestIdReused(op.request_id, run_id);
      *existing_run_id = run_id;
      return absl::OkStatus();
    }
  }
  if (!op.graph_revision.empty()) {
    insert_graph_.BindText(1, op.graph_revision);
    insert_graph_.BindBlob(2, op.graph);
    RETURN_IF_ERROR(insert_graph_.Run("write graph"));
  }
  RunHead head;
  {
    const ResetOnExit reset(&insert_run_);
    insert_run_.BindText(1, op.run_id);
    insert_run_.BindBlob(2, op.request);
    if (op.graph_revision.empty()) {
      insert_run_.BindNull(3);
    } else {
      insert_run_.BindText(3, op.graph_revision);
    }
    insert_run_.Bind(4, op.create_unix_ns);
    ASSIGN_OR_RETURN(const bool inserted, insert_run_.Step("write run"));
    if (!inserted) return DuplicateRun(op.run_id);
    head.number = insert_run_.Int(0);
  }
  insert_state_.Bind(1, head.number);
  insert_state_.BindBlob(2, op.summary);
  RETURN_IF_ERROR(insert_state_.Run("write run state"));
  if (!op.request_id.empty()) {
    insert_request_id_.BindText(1, op.request_id);
    insert_request_id_.BindText(2, op.request_hash);
    insert_request_id_.Bind(3, head.number);
    RETURN_IF_ERROR(insert_request_id_.Run("write request id"));
  }
  if (heads_.size() >= kHeadsMax) heads_.clear();
  heads_[op.run_id] = head;
  return absl::OkStatus();
}

absl::StatusOr<SqliteWriter::RunHead*> SqliteWriter::OpenRun(const std::string& run_id) {
  auto it = heads_.find(run_id);
  if (it == heads_.end()) {
    const ResetOnExit reset(&find_run_);
    find_run_.BindText(1, run_id);
    ASSIGN_OR_RETURN(const bool found, find_run_.Step("find run"));
    if (!found) return NoSuchRun(run_id);
    if (heads_.size() >= kHeadsMax) heads_.clear();
    it = heads_.emplace(run_id, RunHead{find_run_.Int(0), find_run_.Int(2), find_run_.Int(1) != 0}).first;
  }
  if (it->second.finished) {
    heads_.erase(it);
    return RunIsFinished(run_id);
  }
  return &it->second;
}

absl::Status SqliteWriter::Apply(const AppendEvents& op, std::string*) {
  ASSIGN_OR_RETURN(RunHead* const head, OpenRun(op.run_id));
  if (op.first_sequence_number != head->last_sequence_number + 1) {
    return WrongSequence(op.run_id, op.first_sequence_number, head->last_sequence_number + 1);
  }
  for (const std::string& event : op.events) {
    RETURN_IF_ERROR(InsertEvent(head->number, head->last_sequence_number + 1, event));
    ++head->last_sequence_number;
  }
  return absl::OkStatus();
}

absl::Status SqliteWriter::InsertEvent(int64_t run, int64_t sequence_number, const std::string& event) {
  const bool large = static_cast<int64_t>(event.size()) > kBlobThresholdBytes;
  std::string digest;
  if (large) {
    digest = Sha256Hex(event);
    insert_blob_.BindText(1, digest);
    insert_blob_.BindBlob(2, event);
    RETURN_IF_ERROR(insert_blob_.Run("write blob"));
  }
  Statement& insert = large ? insert_event_blob_ : insert_event_;
  insert.Bind(1, run);
  insert.Bind(2, sequence_number);
  large ? insert.BindText(3, digest) : insert.BindBlob(3, event);
  return insert.Run("write event");
}

absl::Status SqliteWriter::Apply(const UpdateRun& op, std::string*) {
  ASSIGN_OR_RETURN(RunHead* const head, OpenRun(op.run_id));
  update_state_.Bind(1, head->number);
  update_state_.Bind(2, op.finished ? 1 : 0);
  update_state_.BindBlob(3, op.summary);
  RETURN_IF_ERROR(update_state_.Run("write run state"));
  if (op.finished) head->finished = true;
  return absl::OkStatus();
}

absl::Status SqliteWriter::Apply(const RecordInput& op, std::string*) {
  ASSIGN_OR_RETURN(RunHead* const head, OpenRun(op.run_id));
  if (op.after_sequence_number > head->last_sequence_number) {
    return InputBeforeItsEvent(op.run_id, op.after_sequence_number, head->last_sequence_number);
  }
  insert_input_.Bind(1, head->number);
  insert_input_.Bind(2, op.after_sequence_number);
  insert_input_.BindBlob(3, op.input);
  return insert_input_.Run("write input");
}

absl::Status SqliteWriter::Apply(const PutResult& op, std::string*) {
  const ResetOnExit reset(&insert_result_);
  insert_result_.BindText(1, op.arm);
  insert_result_.BindText(2, op.item);
  insert_result_.Bind(3, op.replicate);
  insert_result_.BindText(4, op.run_id);
  insert_result_.BindBlob(5, op.payload);
  ASSIGN_OR_RETURN(const bool inserted, insert_result_.Step("write result"));
  return inserted ? absl::OkStatus() : DuplicateResult(op);
}

absl::Status SqliteWriter::Apply(const PutMeta& op, std::string*) {
  put_meta_.BindText(1, op.key);
  put_meta_.BindBlob(2, op.value);
  return put_meta_.Run("write meta");
}

}  // namespace conclave::orchestrator
