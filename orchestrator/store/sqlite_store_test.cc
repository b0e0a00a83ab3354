// SPDX-License-Identifier: Apache-2.0
// What only the durable store does: survive, refuse damage, keep others out, run out of room.
#include "orchestrator/store/sqlite_store.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "common/file.h"
#include "orchestrator/store/file_lock.h"
#include "orchestrator/store/sqlite_db.h"
#include "orchestrator/store/sqlite_schema.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class SqliteStoreTest : public ::testing::Test {
 protected:
  std::string Path() const { return dir_.Path("store.sqlite"); }
  std::unique_ptr<Store> OpenOrDie(int64_t pages_max = 0) {
    auto store = OpenSqliteStore({.path = Path(), .pages_max = pages_max});
    CONCLAVE_CHECK_MSG(store.ok(), store.status().ToString().c_str());
    return *std::move(store);
  }
  void Fill(Store* store, int events, size_t bytes) {
    ASSERT_OK(WriteAndWait(store, {CreateRun{.run_id = "r"}}).status);
    for (int i = 1; i <= events; ++i) {
      ASSERT_OK(WriteAndWait(store, {AppendEvents{"r", i, {std::string(bytes, 'e')}}}).status);
    }
  }
  conclave::testing::TempDir dir_;
};

TEST_F(SqliteStoreTest, WhatWasAcknowledgedIsThereAfterReopening) {
  {
    auto store = OpenOrDie();
    Fill(store.get(), 3, 100'000);  // larger than kBlobThresholdBytes: stored by content, once
  }
  auto store = OpenOrDie();
  const auto events = store->ReadEvents("r", 0, 10, 1 << 20);
  ASSERT_OK(events);
  ASSERT_EQ(events->size(), 3u);
  EXPECT_EQ((*events)[2], std::string(100'000, 'e'));
  ASSERT_OK(WriteAndWait(store.get(), {AppendEvents{"r", 4, {"next"}}}).status);
  EXPECT_LT(std::filesystem::file_size(Path()) + std::filesystem::file_size(Path() + "-wal"), 600'000u);
}

TEST_F(SqliteStoreTest, FilesAreTheirOwnersOnly) {
  auto store = OpenOrDie();
  ASSERT_OK(WriteAndWait(store.get(), {PutMeta{"k", "v"}}).status);
  for (const char* suffix : {"", "-wal", "-shm", ".lock"}) {
    struct stat info {};
    ASSERT_EQ(stat((Path() + suffix).c_str(), &info), 0) << suffix;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << suffix;
  }
}

TEST_F(SqliteStoreTest, ASecondOrchestratorIsRefused) {
  auto store = OpenOrDie();
  EXPECT_THAT(OpenSqliteStore({.path = Path()}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("STORE_IN_USE"), HasSubstr(std::to_string(getpid())))));
  store.reset();
  EXPECT_OK(OpenSqliteStore({.path = Path()}));
}

TEST_F(SqliteStoreTest, AFullDiskRefusesAndLosesNothing) {
  auto store = OpenOrDie(/*pages_max=*/64);
  ASSERT_OK(WriteAndWait(store.get(), {CreateRun{.run_id = "r"}}).status);
  int written = 0;
  absl::Status status;
  while (written < 1000) {
    status = WriteAndWait(store.get(), {AppendEvents{"r", written + 1, {std::string(8000, 'e')}}}).status;
    if (!status.ok()) break;
    ++written;
  }
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kResourceExhausted, AllOf(HasSubstr("STORE_FULL"), HasSubstr(Path()))));
  EXPECT_GT(written, 5);
  EXPECT_EQ(store->GetRun("r")->last_sequence_number, written);
  store = nullptr;
  store = OpenOrDie();  // room again: the next event follows the last acknowledged one
  EXPECT_OK(WriteAndWait(store.get(), {AppendEvents{"r", written + 1, {"e"}}}).status);
}

// In a group that does not fit, the batches that do fit are written.
TEST_F(SqliteStoreTest, OneBatchThatDoesNotFitDoesNotTakeOthersAlong) {
  auto store = OpenOrDie(/*pages_max=*/64);
  std::atomic<int> small = 0;
  std::atomic<int> large = 0;
  for (int i = 0; i < 20; ++i) {
    store->Write({PutMeta{"small" + std::to_string(i), "x"}}, [&](WriteResult r) { small += r.status.ok() ? 1 : 0; });
    store->Write({PutMeta{"large" + std::to_string(i), std::string(1 << 20, 'x')}},
                 [&](WriteResult r) { large += r.status.ok() ? 1 : 0; });
  }
  store.reset();  // waits for all
  EXPECT_EQ(small, 20);
  EXPECT_EQ(large, 0);
}

TEST_F(SqliteStoreTest, ADamagedFileIsRefusedByName) {
  {
    auto store = OpenOrDie();
    Fill(store.get(), 50, 2000);
  }
  const std::string good = *ReadFile(Path());
  const auto open_with = [&](const std::string& bytes) {
    for (const char* suffix : {"-wal", "-shm"}) std::filesystem::remove(Path() + suffix);
    std::ofstream(Path(), std::ios::binary | std::ios::trunc) << bytes;
    return OpenSqliteStore({.path = Path()});
  };
  EXPECT_OK(open_with(good));
  // Every page's header destroyed in turn, and the file cut after every page but the last.
  for (size_t page = 1; page * 4096 < good.size(); ++page) {
    std::string bad = good;
    for (size_t i = 0; i < 16; ++i) bad[page * 4096 + i] = static_cast<char>(0xa5 ^ bad[page * 4096 + i]);
    EXPECT_THAT(open_with(bad), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(Path()))) << "page " << page;
    EXPECT_THAT(open_with(good.substr(0, page * 4096)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(Path())))
        << "cut after page " << page;
  }
  EXPECT_THAT(open_with(std::string(5000, 'x')), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(Path())));
}

TEST_F(SqliteStoreTest, RandomDamageIsNeverFollowedByACrash) {
  {
    auto store = OpenOrDie();
    Fill(store.get(), 20, 1000);
  }
  const std::string good = *ReadFile(Path());
  constexpr uint32_t kSeed = 20240611;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  for (int round = 0; round < 100; ++round) {
    std::string bad = good;
    for (int i = 0; i < 8; ++i) bad[random() % bad.size()] = static_cast<char>(random());
    for (const char* suffix : {"-wal", "-shm"}) std::filesystem::remove(Path() + suffix);
    std::ofstream(Path(), std::ios::binary | std::ios::trunc) << bad;
    auto store = OpenSqliteStore({.path = Path()});
    if (!store.ok()) continue;
    (*store)->ReadEvents("r", 0, 100, 1 << 20).status().IgnoreError();
    WriteAndWait(store->get(), {AppendEvents{"r", 21, {"e"}}}).status.IgnoreError();
  }
}

TEST_F(SqliteStoreTest, NewerAndForeignFilesAreRefused) {
  { auto store = OpenOrDie(); }
  {
    auto db = Db::Open(Path(), SQLITE_OPEN_READWRITE);
    ASSERT_OK(db->Exec("PRAGMA user_version = 999"));
  }
  EXPECT_THAT(OpenSqliteStore({.path = Path()}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("schema version 999")));
  const std::string other = dir_.Path("other.sqlite");
  {
    auto db = Db::Open(other, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    ASSERT_OK(db->Exec("CREATE TABLE t(x)"));
  }
  EXPECT_THAT(OpenSqliteStore({.path = other}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another program")));
  EXPECT_THAT(OpenSqliteStore({.path = dir_.Path("no/such/folder.sqlite")}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("create the folder")));
}

TEST_F(SqliteStoreTest, VersionOneIsStillRead) {
  // The file as its first release wrote it; later schema changes must migrate it.
  { auto store = OpenOrDie(); }
  auto db = Db::Open(Path(), SQLITE_OPEN_READWRITE);
  ASSERT_OK(db);
  EXPECT_EQ(*db->QueryInt("PRAGMA user_version"), kSchemaVersion);
  EXPECT_EQ(*db->QueryInt("PRAGMA application_id"), kApplicationId);
  EXPECT_EQ(*db->QueryText("PRAGMA journal_mode"), "wal");
}

TEST_F(SqliteStoreTest, NetworkDisksAreToldApart) {
  EXPECT_OK(CheckLocalDisk(dir_.path()));
  EXPECT_THAT(CheckLocalDisk(dir_.Path("absent")), StatusIs(absl::StatusCode::kFailedPrecondition));
}

// A child writes as fast as it can and tells what was acknowledged; it is killed at random moments.
TEST_F(SqliteStoreTest, KilledWritersLoseNothingTheyWereToldIsDurable) {
  constexpr uint32_t kSeed = 7;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  ASSERT_OK(WriteAndWait(OpenOrDie().get(), {CreateRun{.run_id = "r"}}).status);
  for (int round = 0; round < 10; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto store = OpenSqliteStore({.path = Path()});
      if (!store.ok()) _exit(1);
      for (int64_t next = (*store)->GetRun("r")->last_sequence_number + 1;; ++next) {
        (*store)->Write({AppendEvents{"r", next, {std::string(500, 'e')}}}, [next, fd = pipe_ends[1]](WriteResult r) {
          if (!r.status.ok() || write(fd, &next, sizeof(next)) != sizeof(next)) _exit(1);
        });
        if (next % 64 == 0) WriteAndWait(store->get(), {PutMeta{"k", "v"}}).status.IgnoreError();
      }
    }
    close(pipe_ends[1]);
    int64_t acknowledged = 0;
    const int64_t until = static_cast<int64_t>(random() % 400);
    for (int64_t i = 0, value = 0; i < until && read(pipe_ends[0], &value, sizeof(value)) == sizeof(value); ++i) {
      acknowledged = value;
    }
    kill(child, SIGKILL);
    int64_t value = 0;
    while (read(pipe_ends[0], &value, sizeof(value)) == sizeof(value)) acknowledged = value;
    close(pipe_ends[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed by itself in round " << round;
    auto store = OpenOrDie();
    EXPECT_GE(store->GetRun("r")->last_sequence_number, acknowledged);
  }
}

}  // namespace
}  // namespace conclave::orchestrator
