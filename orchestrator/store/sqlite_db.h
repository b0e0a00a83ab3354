// SPDX-License-Identifier: Apache-2.0
// SQLite handles that close themselves and errors that name the file.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::orchestrator {

struct CloseDb {
  void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

// What an SQLite result code means to a caller: SQLITE_FULL is RESOURCE_EXHAUSTED STORE_FULL; corruption and failed
// I/O are DATA_LOSS STORE_CORRUPT; a lock is UNAVAILABLE; a constraint is FAILED_PRECONDITION; anything else INTERNAL.
absl::Status SqliteError(int code, std::string_view path, std::string_view what, std::string_view detail);

class Statement;

// One connection. Not thread-safe: it belongs to one thread at a time.
class Db {
 public:
  Db() = default;
  static absl::StatusOr<Db> Open(const std::string& path, int flags);

  absl::Status Exec(const char* sql);
  absl::StatusOr<Statement> Prepare(std::string_view sql);
  absl::StatusOr<int64_t> QueryInt(std::string_view sql);
  absl::StatusOr<std::string> QueryText(std::string_view sql);
  absl::Status Error(int code, std::string_view what) const;
  // False once SQLite has rolled the transaction back by itself.
  bool InTransaction() const { return sqlite3_get_autocommit(db_.get()) == 0; }
  int changes() const { return sqlite3_changes(db_.get()); }
  const std::string& path() const { return path_; }

 private:
  std::unique_ptr<sqlite3, CloseDb> db_;
  std::string path_;
};

// A prepared statement, used again and again: Bind.. from 1, Step until it says no row, Reset. Text and blobs are not
// copied: they must live until Reset.
class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  void Bind(int index, int64_t value) { Note(sqlite3_bind_int64(get(), index, value)); }
  void BindText(int index, std::string_view text);
  void BindBlob(int index, std::string_view blob);
  void BindNull(int index) { Note(sqlite3_bind_null(get(), index)); }

  // True: a row is there. False: done.
  absl::StatusOr<bool> Step(std::string_view what);
  // Runs to the end and resets.
  absl::Status Run(std::string_view what);
  void Reset();

  int64_t Int(int column) const { return sqlite3_column_int64(get(), column); }
  std::string Bytes(int column) const;  // of text or blob; "" for NULL
  bool IsNull(int column) const { return sqlite3_column_type(get(), column) == SQLITE_NULL; }

 private:
  sqlite3_stmt* get() const { return statement_.get(); }
  absl::Status Error(int code, std::string_view what) const;
  void Note(int code) {
    if (code != SQLITE_OK) code_ = code;
  }

  std::unique_ptr<sqlite3_stmt, FinalizeStatement> statement_;
  int code_ = SQLITE_OK;
};

// Resets a statement on every way out of a scope.
class ResetOnExit {
 public:
  explicit ResetOnExit(Statement* statement) : statement_(statement) {}
  ~ResetOnExit() { statement_->Reset(); }
  ResetOnExit(const ResetOnExit&) = delete;
  ResetOnExit& operator=(const ResetOnExit&) = delete;

 private:
  Statement* statement_;
};

}  // namespace conclave::orchestrator
