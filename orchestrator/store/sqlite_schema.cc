// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/store/sqlite_schema.h"

#include <array>

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

// Forward only; a released step is never edited. A run's changing part has a table of its own, because SQLite rewrites
// whole rows and requests may be long. AUTOINCREMENT: a page cursor must not be given twice.
constexpr const char* kVersion1 = R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE graph(revision TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE run(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL UNIQUE,
  request BLOB NOT NULL,
  graph_revision TEXT REFERENCES graph(revision),
  create_unix_ns INTEGER NOT NULL);
CREATE TABLE run_state(
  run INTEGER PRIMARY KEY REFERENCES run(number) ON DELETE CASCADE,
  finished INTEGER NOT NULL CHECK (finished IN (0, 1)),
  summary BLOB NOT NULL);
CREATE INDEX run_unfinished ON run_state(run) WHERE finished = 0;
CREATE TABLE request_id(
  request_id TEXT PRIMARY KEY,
  hash TEXT NOT NULL,
  run INTEGER NOT NULL REFERENCES run(number) ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE blob(sha256 TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE event(
  run INTEGER NOT NULL REFERENCES run(number) ON DELETE CASCADE,
  seq INTEGER NOT NULL CHECK (seq >= 1),
  body BLOB,
  sha256 TEXT REFERENCES blob(sha256),
  PRIMARY KEY (run, seq),
  CHECK ((body IS NULL) <> (sha256 IS NULL)));
CREATE TABLE input(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  run INTEGER NOT NULL REFERENCES run(number) ON DELETE CASCADE,
  after_seq INTEGER NOT NULL CHECK (after_seq >= 0),
  body BLOB NOT NULL);
CREATE INDEX input_of_run ON input(run, number);
CREATE TABLE result(
  arm TEXT NOT NULL,
  item TEXT NOT NULL,
  replicate INTEGER NOT NULL CHECK (replicate >= 0),
  run_id TEXT NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY (arm, item, replicate));
)sql";

constexpr std::array<const char*, kSchemaVersion> kSteps = {kVersion1};

absl::Status Upgrade(Db* db, int64_t from) {
  for (size_t step = static_cast<size_t>(from); step < kSteps.size(); ++step) RETURN_IF_ERROR(db->Exec(kSteps[step]));
  RETURN_IF_ERROR(db->Exec(fmt::format("PRAGMA user_version = {}", kSchemaVersion).c_str()));
  return db->Exec(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str());
}

}  // namespace

absl::Status Migrate(Db* db) {
  RETURN_IF_ERROR(db->Exec("BEGIN IMMEDIATE"));
  const auto run = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const int64_t version, db->QueryInt("PRAGMA user_version"));
    ASSIGN_OR_RETURN(const int64_t application, db->QueryInt("PRAGMA application_id"));
    ASSIGN_OR_RETURN(const int64_t tables, db->QueryInt("SELECT count(*) FROM sqlite_schema"));
    if (tables != 0 && application != kApplicationId) {
      return FailedPrecondition("{}: an SQLite file of another program (application id {:#x}); name a new file",
                                db->path(), application);
    }
    if (version < 0 || version > kSchemaVersion) {
      return FailedPrecondition("{}: schema version {}, this program knows up to {}; use a newer Conclave", db->path(),
                                version, kSchemaVersion);
    }
    return version == kSchemaVersion ? absl::OkStatus() : Upgrade(db, version);
  };
  if (absl::Status status = run(); !status.ok()) {
    db->Exec("ROLLBACK").IgnoreError();
    return status;
  }
  return db->Exec("COMMIT");
}

}  // namespace conclave::orchestrator
