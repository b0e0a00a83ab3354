// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/store/sqlite_db.h"

#include "common/status.h"

namespace conclave::orchestrator {

absl::Status SqliteError(int code, std::string_view path, std::string_view what, std::string_view detail) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return ResourceExhausted("STORE_FULL: {}: {}: {}; free some space", path, what, detail);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return DataLoss("STORE_CORRUPT: {}: {}: {}; restore a copy or move the file away", path, what, detail);
    case SQLITE_IOERR:
      return DataLoss("STORE_IO: {}: {}: {} (extended code {}); check the disk, then start again", path, what, detail,
                      code);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Unavailable("{}: {}: {}; is another program writing to it?", path, what, detail);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return FailedPrecondition("{}: {}: {}; check that the folder exists and may be written", path, what, detail);
    case SQLITE_CONSTRAINT:
      return FailedPrecondition("{}: {}: {}", path, what, detail);
    default:
      return Internal("{}: {}: {} (SQLite code {})", path, what, detail, code);
  }
}

absl::StatusOr<Db> Db::Open(const std::string& path, int flags) {
  Db out;
  out.path_ = path;
  sqlite3* db = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &db, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  out.db_.reset(db);  // also after an error: SQLite gives a handle to read the error from
  if (code != SQLITE_OK) return out.Error(code, "open");
  sqlite3_extended_result_codes(db, 1);
  return out;
}

absl::Status Db::Error(int code, std::string_view what) const {
  return SqliteError(code, path_, what, db_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db_.get()));
}

absl::Status Db::Exec(const char* sql) {
  const int code = sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql);
}

absl::StatusOr<Statement> Db::Prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(db_.get(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                      &statement, nullptr);
  if (code != SQLITE_OK) return Error(code, sql);
  return Statement(statement);
}

absl::StatusOr<int64_t> Db::QueryInt(std::string_view sql) {
  ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ASSIGN_OR_RETURN(const bool row, statement.Step(sql));
  return row ? statement.Int(0) : 0;
}

absl::StatusOr<std::string> Db::QueryText(std::string_view sql) {
  ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ASSIGN_OR_RETURN(const bool row, statement.Step(sql));
  return row ? statement.Bytes(0) : std::string();
}

void Statement::BindText(int index, std::string_view text) {
  Note(sqlite3_bind_text64(get(), index, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8));
}

void Statement::BindBlob(int index, std::string_view blob) {
  // A null pointer would bind NULL, and an empty blob is not NULL.
  Note(blob.empty() ? sqlite3_bind_zeroblob(get(), index, 0)
                    : sqlite3_bind_blob64(get(), index, blob.data(), blob.size(), SQLITE_STATIC));
}

absl::Status Statement::Error(int code, std::string_view what) const {
  sqlite3* db = sqlite3_db_handle(get());
  return SqliteError(code, sqlite3_db_filename(db, "main"), what, sqlite3_errmsg(db));
}

absl::StatusOr<bool> Statement::Step(std::string_view what) {
  if (code_ != SQLITE_OK) return Error(code_, what);
  const int code = sqlite3_step(get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  code_ = code;
  return Error(code, what);
}

absl::Status Statement::Run(std::string_view what) {
  absl::StatusOr<bool> row = true;
  while (row.ok() && *row) row = Step(what);
  Reset();
  return row.status();
}

void Statement::Reset() {
  if (statement_ == nullptr) return;
  sqlite3_reset(get());  // repeats the error of the last step, which was reported then
  sqlite3_clear_bindings(get());
  code_ = SQLITE_OK;
}

std::string Statement::Bytes(int column) const {
  const void* data = sqlite3_column_blob(get(), column);
  const int size = sqlite3_column_bytes(get(), column);
  return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), static_cast<size_t>(size));
}

}  // namespace conclave::orchestrator
