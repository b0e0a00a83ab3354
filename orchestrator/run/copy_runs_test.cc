// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/copy_runs.h"

#include "orchestrator/run/stored_run.h"
#include "orchestrator/store/memory_store.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

deliberation::v1::RunRequest Request(const std::string& request_id) {
  deliberation::v1::RunRequest request;
  request.set_request_id(request_id);
  request.set_item_id("item of " + request_id);
  return request;
}

// A store with one run of `request_id`.
std::unique_ptr<Store> StoreWith(const std::string& request_id, const std::string& run_id, bool finished,
                                 size_t events) {
  auto store = NewMemoryStore();
  const deliberation::v1::RunRequest request = Request(request_id);
  RunSpec spec;
  spec.run_id = run_id;
  CreateRun create{.run_id = run_id, .request = EncodeRun(request, spec), .graph_revision = std::string(64, 'a')};
  create.graph = "graph", create.request_id = request_id, create.request_hash = RequestHash(request);
  create.create_unix_ns = 7;
  AppendEvents append{.run_id = run_id};
  for (size_t i = 0; i < events; ++i) append.events.push_back("event " + std::to_string(i + 1));
  EXPECT_OK(
      WriteAndWait(store.get(), {create, append, RecordInput{run_id, 1, "input"}, UpdateRun{run_id, "done", finished}})
          .status);
  return store;
}

TEST(CopyRuns, ARunIsTheSameInItsNewStore) {
  const auto from = StoreWith("one", "runs/1", true, 1'001);  // more than are read at a time
  const auto to = NewMemoryStore();
  const std::vector<AskedRequest> ids = {{"one", RequestHash(Request("one"))}};
  ASSERT_OK(CopyFinishedRuns(*from, ids, to.get()));
  const auto run = to->FindRequest("one");
  ASSERT_OK(run);
  EXPECT_EQ(run->run_id, "runs/1");
  EXPECT_EQ(run->request, from->FindRequest("one")->request);
  EXPECT_EQ(run->create_unix_ns, 7);
  EXPECT_TRUE(run->finished);
  EXPECT_EQ(run->summary, "done");
  EXPECT_EQ(to->GetGraph(run->graph_revision).value(), "graph");
  EXPECT_EQ(to->ReadEvents("runs/1", 0, 2'000, int64_t{1} << 30).value(),
            from->ReadEvents("runs/1", 0, 2'000, int64_t{1} << 30).value());
  EXPECT_EQ(to->ReadInputs("runs/1")->at(0).input, "input");
  // The same request finds it; another payload under its id is refused, as in the store it came from.
  CreateRun again{.run_id = "runs/2", .request_id = "one"};
  again.request_hash = RequestHash(Request("one"));
  EXPECT_EQ(WriteAndWait(to.get(), {again}).existing_run_id, "runs/1");
  again.request_hash = "another";
  EXPECT_THAT(WriteAndWait(to.get(), {again}).status, StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST(CopyRuns, WhatIsMissingOrOpenOrThereIsNamed) {
  const auto to = NewMemoryStore();
  const std::vector<AskedRequest> ids = {{"one", RequestHash(Request("one"))}};
  EXPECT_THAT(CopyFinishedRuns(*NewMemoryStore(), ids, to.get()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("request one: no run was begun")));
  EXPECT_THAT(CopyFinishedRuns(*StoreWith("one", "r", false, 2), ids, to.get()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("has not ended")));
  ASSERT_OK(CopyFinishedRuns(*StoreWith("one", "r", true, 2), ids, to.get()));
  EXPECT_THAT(CopyFinishedRuns(*StoreWith("one", "s", true, 2), ids, to.get()),
              StatusIs(absl::StatusCode::kAlreadyExists));
}

}  // namespace
}  // namespace conclave::orchestrator
