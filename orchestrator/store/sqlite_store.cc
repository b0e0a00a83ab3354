// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/store/sqlite_store.h"

#include <deque>
#include <filesystem>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/store/checks.h"
#include "orchestrator/store/file_lock.h"
#include "orchestrator/store/sqlite_db.h"
#include "orchestrator/store/sqlite_writer.h"

namespace conclave::orchestrator {
namespace {

constexpr size_t kIdleReadersMax = 4;

constexpr std::string_view kSelectRun =
    "SELECT number, run_id, request, coalesce(graph_revision, ''), create_unix_ns, finished, summary, "
    "(SELECT coalesce(max(seq), 0) FROM event WHERE event.run = number) "
    "FROM run JOIN run_state ON run_state.run = number ";

StoredRun RunFromRow(const Statement& row) {
  return StoredRun{.number = row.Int(0),
                   .run_id = row.Bytes(1),
                   .request = row.Bytes(2),
                   .graph_revision = row.Bytes(3),
                   .create_unix_ns = row.Int(4),
                   .last_sequence_number = row.Int(7),
                   .finished = row.Int(5) != 0,
                   .summary = row.Bytes(6)};
}

absl::StatusOr<std::vector<StoredRun>> AllRuns(Statement* statement) {
  std::vector<StoredRun> out;
  while (true) {
    ASSIGN_OR_RETURN(const bool row, statement->Step("list runs"));
    if (!row) return out;
    out.push_back(RunFromRow(*statement));
  }
}

class SqliteStore final : public Store {
 public:
  SqliteStore(const SqliteOptions& options, std::unique_ptr<FileLock> lock, std::unique_ptr<SqliteWriter> writer)
      : options_(options), lock_(std::move(lock)), writer_(std::move(writer)), thread_([this] { WriteLoop(); }) {}

  ~SqliteStore() override {
    {
      MutexLock lock(&mutex_);
      stop_ = true;
      queued_.SignalAll();
    }
    thread_.join();
  }

  void Write(std::vector<WriteOp> batch, WriteDone done) override {
    MutexLock lock(&mutex_);
    queue_.push_back({std::move(batch), std::move(done)});
    queued_.Signal();
  }

  absl::StatusOr<StoredRun> GetRun(std::string_view run_id) const override {
    return WithReader<StoredRun>([&](Db* db) -> absl::StatusOr<StoredRun> {
      ASSIGN_OR_RETURN(Statement find, db->Prepare(fmt::format("{} WHERE run_id = ?1", kSelectRun)));
      find.BindText(1, run_id);
      ASSIGN_OR_RETURN(const bool found, find.Step("find run"));
      if (!found) return NoSuchRun(run_id);
      return RunFromRow(find);
    });
  }

  absl::StatusOr<std::vector<StoredRun>> ListRuns(int64_t before_number, int64_t count) const override {
    return WithReader<std::vector<StoredRun>>([&](Db* db) -> absl::StatusOr<std::vector<StoredRun>> {
      ASSIGN_OR_RETURN(
          Statement list,
          db->Prepare(fmt::format("{} WHERE ?1 = 0 OR number < ?1 ORDER BY number DESC LIMIT ?2", kSelectRun)));
      list.Bind(1, before_number);
      list.Bind(2, count);
      return AllRuns(&list);
    });
  }

  absl::StatusOr<std::vector<StoredRun>> UnfinishedRuns() const override {
    return WithReader<std::vector<StoredRun>>([&](Db* db) -> absl::StatusOr<std::vector<StoredRun>> {
      ASSIGN_OR_RETURN(Statement list, db->Prepare(fmt::format("{} WHERE finished = 0 ORDER BY number", kSelectRun)));
      return AllRuns(&list);
    });
  }

  absl::StatusOr<std::vector<std::string>> ReadEvents(std::string_view run_id, int64_t after, int64_t count,
                                                      int64_t bytes) const override {
    return WithReader<std::vector<std::string>>([&](Db* db) -> absl::StatusOr<std::vector<std::string>> {
      ASSIGN_OR_RETURN(const int64_t run, RunNumber(db, run_id));
      ASSIGN_OR_RETURN(Statement list,
                       db->Prepare("SELECT coalesce(event.body, blob.body) FROM event LEFT JOIN blob USING (sha256) "
                                   "WHERE run = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"));
      list.Bind(1, run);
      list.Bind(2, after);
      list.Bind(3, count);
      std::vector<std::string> out;
      for (int64_t size = 0; out.empty() || size < bytes;) {
        ASSIGN_OR_RETURN(const bool row, list.Step("read events"));
        if (!row) break;
        out.push_back(list.Bytes(0));
        size += static_cast<int64_t>(out.back().size());
      }
      return out;
    });
  }

  absl::StatusOr<std::vector<StoredInput>> ReadInputs(std::string_view run_id) const override {
    return WithReader<std::vector<StoredInput>>([&](Db* db) -> absl::StatusOr<std::vector<StoredInput>> {
      ASSIGN_OR_RETURN(const int64_t run, RunNumber(db, run_id));
      ASSIGN_OR_RETURN(Statement list, db->Prepare("SELECT after_seq, body FROM input WHERE run = ?1 ORDER BY number"));
      list.Bind(1, run);
      std::vector<StoredInput> out;
      while (true) {
        ASSIGN_OR_RETURN(const bool row, list.Step("read inputs"));
        if (!row) return out;
        out.push_back({list.Int(0), list.Bytes(1)});
      }
    });
  }

  absl::StatusOr<StoredRun> FindRequest(std::string_view request_id) const override {
    return WithReader<StoredRun>([&](Db* db) -> absl::StatusOr<StoredRun> {
      ASSIGN_OR_RETURN(
          Statement find,
          db->Prepare(fmt::format("{} WHERE number = (SELECT run FROM request_id WHERE request_id = ?1)", kSelectRun)));
      find.BindText(1, request_id);
      ASSIGN_OR_RETURN(const bool found, find.Step("find request id"));
      if (!found) return NoSuchRequest(request_id);
      return RunFromRow(find);
    });
  }

  absl::StatusOr<std::string> GetGraph(std::string_view revision) const override {
    return WithReader<std::string>([&](Db* db) -> absl::StatusOr<std::string> {
      ASSIGN_OR_RETURN(Statement find, db->Prepare("SELECT body FROM graph WHERE revision = ?1"));
      find.BindText(1, revision);
      ASSIGN_OR_RETURN(const bool found, find.Step("find graph"));
      if (!found) return NotFound("GRAPH_NOT_FOUND: no graph with revision {}", revision);
      return find.Bytes(0);
    });
  }

  absl::Status ReadResults(const std::function<absl::Status(const StoredResult&)>& visit) const override {
    return WithReader<bool>([&](Db* db) -> absl::StatusOr<bool> {
             ASSIGN_OR_RETURN(Statement list, db->Prepare("SELECT arm, item, replicate, run_id, payload FROM result "
                                                          "ORDER BY arm, item, replicate"));
             while (true) {
               ASSIGN_OR_RETURN(const bool row, list.Step("read results"));
               if (!row) return true;
               RETURN_IF_ERROR(visit(
                   {list.Bytes(0), list.Bytes(1), static_cast<int32_t>(list.Int(2)), list.Bytes(3), list.Bytes(4)}));
             }
           })
        .status();
  }

  absl::StatusOr<std::optional<std::string>> GetMeta(std::string_view key) const override {
    return WithReader<std::optional<std::string>>([&](Db* db) -> absl::StatusOr<std::optional<std::string>> {
      ASSIGN_OR_RETURN(Statement find, db->Prepare("SELECT value FROM meta WHERE key = ?1"));
      find.BindText(1, key);
      ASSIGN_OR_RETURN(const bool found, find.Step("find meta"));
      return found ? std::optional(find.Bytes(0)) : std::nullopt;
    });
  }

 private:
  struct Pending {
    std::vector<WriteOp> batch;
    WriteDone done;
  };

  static absl::StatusOr<int64_t> RunNumber(Db* db, std::string_view run_id) {
    ASSIGN_OR_RETURN(Statement find, db->Prepare("SELECT number FROM run WHERE run_id = ?1"));
    find.BindText(1, run_id);
    ASSIGN_OR_RETURN(const bool found, find.Step("find run"));
    if (!found) return NoSuchRun(run_id);
    return find.Int(0);
  }

  // Runs `read` on an idle connection, or a new one; its statements are gone before the connection is put back.
  template <typename T, typename Read>
  absl::StatusOr<T> WithReader(const Read& read) const {
    std::unique_ptr<Db> db;
    {
      MutexLock lock(&readers_mutex_);
      if (!readers_.empty()) {
        db = std::move(readers_.back());
        readers_.pop_back();
      }
    }
    if (db == nullptr) {
      ASSIGN_OR_RETURN(Db opened, Db::Open(options_.path, SQLITE_OPEN_READWRITE));
      RETURN_IF_ERROR(
          opened.Exec("PRAGMA query_only = 1; PRAGMA wal_autocheckpoint = 0; PRAGMA mmap_size = 0; "
                      "PRAGMA busy_timeout = 5000"));
      db = std::make_unique<Db>(std::move(opened));
    }
    absl::StatusOr<T> out = read(db.get());
    MutexLock lock(&readers_mutex_);
    if (readers_.size() < kIdleReadersMax) readers_.push_back(std::move(db));
    return out;
  }

  void WriteLoop() {
    while (true) {
      std::vector<Pending> group = NextGroup();
      if (group.empty()) return;
      std::vector<const std::vector<WriteOp>*> batches;
      for (const Pending& pending : group) batches.push_back(&pending.batch);
      std::vector<WriteResult> results = writer_->Commit(batches);
      for (size_t i = 0; i < group.size(); ++i) {
        if (!results[i].status.ok()) results[i].batch = std::move(group[i].batch);
        group[i].done(std::move(results[i]));
      }
    }
  }

  // Everything queued, up to group_ops_max operations; empty when the store closes and nothing is left.
  std::vector<Pending> NextGroup() {
    std::vector<Pending> group;
    MutexLock lock(&mutex_);
    while (queue_.empty() && !stop_) queued_.Wait(&mutex_);
    size_t ops = 0;
    while (!queue_.empty() &&
           (group.empty() || ops + queue_.front().batch.size() <= static_cast<size_t>(options_.group_ops_max))) {
      ops += queue_.front().batch.size();
      group.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    return group;
  }

  const SqliteOptions options_;
  const std::unique_ptr<FileLock> lock_;        // outlives every connection
  const std::unique_ptr<SqliteWriter> writer_;  // used by thread_ only
  mutable Mutex readers_mutex_;
  mutable std::vector<std::unique_ptr<Db>> readers_ ABSL_GUARDED_BY(readers_mutex_);

  Mutex mutex_;
  CondVar queued_;
  std::deque<Pending> queue_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const SqliteOptions& options) {
  const std::filesystem::path parent = std::filesystem::path(options.path).parent_path();
  RETURN_IF_ERROR(CheckLocalDisk(parent.empty() ? "." : parent.string()));
  ASSIGN_OR_RETURN(std::unique_ptr<FileLock> lock, FileLock::Acquire(options.path + ".lock"));
  ASSIGN_OR_RETURN(std::unique_ptr<SqliteWriter> writer, SqliteWriter::Open(options.path, options.pages_max));
  return std::make_unique<SqliteStore>(options, std::move(lock), std::move(writer));
}

}  // namespace conclave::orchestrator
