// SPDX-License-Identifier: Apache-2.0
// What every store promises; each test runs on each store.
#include "orchestrator/store/store.h"

#include <thread>

#include "orchestrator/store/memory_store.h"
#include "orchestrator/store/sqlite_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

enum class Kind { kMemory, kSqlite };

class StoreTest : public ::testing::TestWithParam<Kind> {
 protected:
  StoreTest() { Open(); }

  void Open() {
    if (GetParam() == Kind::kMemory) {
      store_ = NewMemoryStore();
      return;
    }
    store_.reset();
    auto opened = OpenSqliteStore({.path = dir_.Path("store.sqlite")});
    CONCLAVE_CHECK_MSG(opened.ok(), opened.status().ToString().c_str());
    store_ = *std::move(opened);
  }

  WriteResult Write(std::vector<WriteOp> batch) { return WriteAndWait(store_.get(), std::move(batch)); }
  absl::Status Create(const std::string& id) {
    return Write({CreateRun{.run_id = id, .request = "request of " + id, .summary = "new"}}).status;
  }
  std::vector<std::string> Events(const std::string& id, int64_t after = 0, int64_t count = 1000,
                                  int64_t bytes = 1 << 20) {
    auto events = store_->ReadEvents(id, after, count, bytes);
    EXPECT_OK(events);
    return events.ok() ? *events : std::vector<std::string>();
  }

  conclave::testing::TempDir dir_;
  std::unique_ptr<Store> store_;
};

TEST_P(StoreTest, RunsEventsAndSummariesComeBackAsWritten) {
  ASSERT_OK(Write({CreateRun{.run_id = "r1",
                             .request = std::string("a\0b", 3),
                             .graph_revision = std::string(64, 'a'),
                             .graph = "graph",
                             .create_unix_ns = 7,
                             .summary = "pending"},
                   AppendEvents{"r1", 1, {"one", "two"}}})
                .status);
  ASSERT_OK(Write({AppendEvents{"r1", 3, {""}}, UpdateRun{"r1", "done", true}}).status);

  const auto run = store_->GetRun("r1");
  ASSERT_OK(run);
  EXPECT_EQ(run->request, std::string("a\0b", 3));
  EXPECT_EQ(run->graph_revision, std::string(64, 'a'));
  EXPECT_EQ(run->create_unix_ns, 7);
  EXPECT_EQ(run->last_sequence_number, 3);
  EXPECT_TRUE(run->finished);
  EXPECT_EQ(run->summary, "done");
  EXPECT_THAT(Events("r1"), ElementsAre("one", "two", ""));
  EXPECT_THAT(Events("r1", 2), ElementsAre(""));
  EXPECT_THAT(Events("r1", 3), IsEmpty());
  EXPECT_THAT(Events("r1", 0, 1), ElementsAre("one"));
  EXPECT_EQ(*store_->GetGraph(std::string(64, 'a')), "graph");
  EXPECT_THAT(store_->GetRun("r2"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("RUN_NOT_FOUND")));
  EXPECT_THAT(store_->ReadEvents("r2", 0, 1, 1), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store_->GetGraph("x"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("GRAPH_NOT_FOUND")));
}

TEST_P(StoreTest, PagesOfEventsEndAfterTheirBytesButHoldAtLeastOne) {
  ASSERT_OK(Create("r"));
  ASSERT_OK(Write({AppendEvents{"r", 1, {std::string(10, 'a'), std::string(10, 'b'), std::string(10, 'c')}}}).status);
  EXPECT_EQ(Events("r", 0, 1000, 1).size(), 1u);
  EXPECT_EQ(Events("r", 0, 1000, 11).size(), 2u);
}

TEST_P(StoreTest, SequenceNumbersHaveNoGapAndNoRepeat) {
  ASSERT_OK(Create("r"));
  ASSERT_OK(Write({AppendEvents{"r", 1, {"1", "2"}}}).status);
  const WriteResult refused = Write({AppendEvents{"r", 2, {"again"}}});
  EXPECT_THAT(refused.status, StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_EQ(refused.batch.size(), 1u);
  EXPECT_THAT(std::get<AppendEvents>(refused.batch[0]).events, ElementsAre("again"));
  EXPECT_THAT(Write({AppendEvents{"r", 4, {"gap"}}}).status,
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("3 must come next")));
  EXPECT_THAT(Write({AppendEvents{"r", 0, {"zero"}}}).status, StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK(Write({AppendEvents{"r", 3, {"3"}}}).status);
  EXPECT_THAT(Events("r"), ElementsAre("1", "2", "3"));
}

TEST_P(StoreTest, ABatchHappensWholeOrNotAtAll) {
  ASSERT_OK(Create("r"));
  EXPECT_THAT(
      Write({AppendEvents{"r", 1, {"1"}}, PutMeta{"k", "v"}, CreateRun{.run_id = "s"}, AppendEvents{"r", 3, {"gap"}}})
          .status,
      StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Events("r"), IsEmpty());
  EXPECT_EQ(*store_->GetMeta("k"), std::nullopt);
  EXPECT_THAT(store_->GetRun("s"), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(Write({AppendEvents{"r", 1, {"1"}}}).status);  // what was undone is forgotten
}

TEST_P(StoreTest, AFinishedRunTakesNothingMore) {
  ASSERT_OK(Create("r"));
  ASSERT_OK(Write({UpdateRun{"r", "end", true}}).status);
  for (const WriteOp& op :
       {WriteOp(AppendEvents{"r", 1, {"1"}}), WriteOp(UpdateRun{"r", "x", false}), WriteOp(RecordInput{"r", 0, "c"})}) {
    EXPECT_THAT(Write({op}).status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("RUN_FINISHED")));
  }
  EXPECT_THAT(Write({AppendEvents{"absent", 1, {"1"}}}).status, StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(StoreTest, ARequestIdBeginsOneRunOnly) {
  const CreateRun first{.run_id = "r1", .request_id = "id", .request_hash = "h"};
  ASSERT_OK(Write({first}).status);
  CreateRun again = first;
  again.run_id = "r2";
  const WriteResult same = Write({again, AppendEvents{"r2", 1, {"x"}}});
  ASSERT_OK(same.status);
  EXPECT_EQ(same.existing_run_id, "r1");
  EXPECT_EQ(store_->FindRequest("id")->run_id, "r1");
  EXPECT_THAT(store_->FindRequest("absent"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store_->GetRun("r2"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(store_->GetRun("r1")->last_sequence_number, 0);
  again.request_hash = "other";
  EXPECT_THAT(Write({again}).status, StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("REQUEST_ID_REUSED")));
  EXPECT_THAT(Write({CreateRun{.run_id = "r1"}}).status, StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_P(StoreTest, ListsNewestFirstByPages) {
  for (int i = 0; i < 5; ++i) ASSERT_OK(Create("r" + std::to_string(i)));
  ASSERT_OK(Write({UpdateRun{"r1", "end", true}}).status);
  const auto page = store_->ListRuns(0, 2);
  ASSERT_OK(page);
  ASSERT_EQ(page->size(), 2u);
  EXPECT_EQ((*page)[0].run_id, "r4");
  EXPECT_EQ((*page)[1].run_id, "r3");
  const auto rest = store_->ListRuns((*page)[1].number, 10);
  ASSERT_EQ(rest->size(), 3u);
  EXPECT_EQ((*rest)[0].run_id, "r2");
  const auto unfinished = store_->UnfinishedRuns();
  ASSERT_EQ(unfinished->size(), 4u);
  EXPECT_EQ((*unfinished)[1].run_id, "r2");
  EXPECT_EQ((*unfinished)[1].request, "request of r2");
}

TEST_P(StoreTest, AResultIsCommittedExactlyOnce) {
  ASSERT_OK(Write({PutResult{"b", "q1", 0, "r", "x"}, PutResult{"a", "q2", 1, "", "y"}}).status);
  EXPECT_THAT(Write({PutResult{"b", "q1", 0, "r", "x"}}).status,
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("RESULT_EXISTS")));
  EXPECT_THAT(Write({PutResult{"c", "q", 0, "", "1"}, PutResult{"c", "q", 0, "", "2"}}).status,
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(Write({PutResult{"", "q", 0, "", ""}}).status, StatusIs(absl::StatusCode::kInvalidArgument));
  std::vector<std::string> seen;
  ASSERT_OK(store_->ReadResults([&](const StoredResult& r) {
    seen.push_back(r.arm + "/" + r.item + "/" + std::to_string(r.replicate) + "=" + r.payload);
    return absl::OkStatus();
  }));
  EXPECT_THAT(seen, ElementsAre("a/q2/1=y", "b/q1/0=x"));
  EXPECT_THAT(store_->ReadResults([](const StoredResult&) { return absl::CancelledError("stop"); }),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_P(StoreTest, InputsKeepTheirPlace) {
  ASSERT_OK(Create("r"));
  ASSERT_OK(Write({RecordInput{"r", 0, "first"}, AppendEvents{"r", 1, {"1"}}, RecordInput{"r", 1, "cancel"}}).status);
  const auto inputs = store_->ReadInputs("r");
  ASSERT_OK(inputs);
  ASSERT_EQ(inputs->size(), 2u);
  EXPECT_EQ((*inputs)[0].input, "first");
  EXPECT_EQ((*inputs)[1].after_sequence_number, 1);
  EXPECT_THAT(Write({RecordInput{"r", -1, ""}}).status, StatusIs(absl::StatusCode::kInvalidArgument));
  // One that was taken after an event which is not stored would be replayed at another place.
  const WriteResult early = Write({RecordInput{"r", 2, "early"}});
  EXPECT_THAT(early.status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("after event 2, where 1 is")));
  EXPECT_EQ(early.batch.size(), 1u);
  EXPECT_EQ(store_->ReadInputs("r")->size(), 2u);
}

TEST_P(StoreTest, MetaIsReplaced) {
  ASSERT_OK(Write({PutMeta{"k", "1"}, PutMeta{"k", "2"}}).status);
  EXPECT_EQ(*store_->GetMeta("k"), "2");
}

TEST_P(StoreTest, LimitsHoldAtTheLimitAndNotAboveIt) {
  ASSERT_OK(Create("r"));
  ASSERT_OK(Write({AppendEvents{"r", 1, {std::string(kEventBytesMax, 'x')}}}).status);
  EXPECT_THAT(Write({AppendEvents{"r", 2, {std::string(kEventBytesMax + 1, 'x')}}}).status,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("EVENT_LIMIT")));
  EXPECT_THAT(Write({AppendEvents{"r", kEventsPerRunMax + 1, {"x"}}}).status,
              StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK(Write({CreateRun{.run_id = "a", .request_id = std::string(kRequestIdBytesMax, 'i')}}).status);
  EXPECT_THAT(Write({CreateRun{.run_id = "b", .request_id = std::string(kRequestIdBytesMax + 1, 'i')}}).status,
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(Events("r")[0].size(), static_cast<size_t>(kEventBytesMax));
}

TEST_P(StoreTest, WritersOnManyThreadsShareCommitsInOrder) {
  constexpr int kThreads = 4;
  constexpr int kEvents = 200;
  std::vector<std::thread> threads;
  std::atomic<int> acknowledged = 0;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const std::string id = "r" + std::to_string(t);
      store_->Write({CreateRun{.run_id = id}}, [&](WriteResult r) { acknowledged += r.status.ok() ? 1 : 0; });
      for (int i = 1; i <= kEvents; ++i) {
        store_->Write({AppendEvents{id, i, {std::to_string(i)}}},
                      [&](WriteResult r) { acknowledged += r.status.ok() ? 1 : 0; });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(Write({PutMeta{"last", ""}}).status);  // everything before it is done too
  EXPECT_EQ(acknowledged, kThreads * (kEvents + 1));
  for (int t = 0; t < kThreads; ++t) {
    const std::vector<std::string> events = Events("r" + std::to_string(t));
    ASSERT_EQ(events.size(), static_cast<size_t>(kEvents));
    EXPECT_EQ(events.back(), std::to_string(kEvents));
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreTest, ::testing::Values(Kind::kMemory, Kind::kSqlite),
                         [](const auto& param) { return param.param == Kind::kMemory ? "Memory" : "Sqlite"; });

}  // namespace
}  // namespace conclave::orchestrator
