// SPDX-License-Identifier: Apache-2.0
// What waits for room in the store, and what waits behind it.
#include "orchestrator/run/executor_testing.h"

namespace conclave::orchestrator {
namespace {

constexpr int64_t kRetryNs = 1'000'000'000;

// A run whose calls never end, in an executor that the test steps through.
class ExecutorOrderTest : public ExecutorTest {
 protected:
  void Step() {
    while (executor_->Step()) {
    }
  }
  void Begin() {
    auto executor = Executor::Start({.store = &held_, .backend = &backend_, .clock = &clock_, .stepped = true});
    CONCLAVE_CHECK(executor.ok());
    executor_ = *std::move(executor);
    executor_->StartRun(MakeRun("q"), nullptr, [this](const absl::StatusOr<StartedRun>& started) {
      ASSERT_OK(started);
      run_id_ = started->run_id;
    });
    Step();
    held_.ReleaseOne();  // the run
    Step();
    held_.ReleaseOne();  // its first events
    Step();
  }
  void Cancel() {
    executor_->CancelRun(run_id_, [this](const absl::StatusOr<pb::RunState>& state) { acknowledged_ += state.ok(); });
    Step();
  }

  ManualClock clock_;
  HoldingStore held_{store_.get()};
  FakeBackend backend_{Members(), [](const CallRequest&) { return Says("#### 1", kNever); }};
  std::unique_ptr<Executor> executor_;
  std::string run_id_;
  int acknowledged_ = 0;
};

TEST_F(ExecutorOrderTest, ASecondCancellationIsNotAcknowledgedBeforeTheFirstIsDurable) {
  Begin();
  Cancel();  // a batch with the request
  Cancel();  // a batch with nothing but its acknowledgement, already with the store when the first does not fit
  held_.RefuseOne();
  held_.ReleaseOne();
  Step();
  EXPECT_EQ(acknowledged_, 0);
  EXPECT_TRUE(store_->ReadInputs(run_id_)->empty());
  clock_.AdvanceNs(kRetryNs);
  Step();
  EXPECT_EQ(acknowledged_, 0);
  held_.ReleaseOne();
  Step();
  EXPECT_EQ(acknowledged_, 1);
  EXPECT_EQ(store_->ReadInputs(run_id_)->size(), 1u);
  held_.ReleaseOne();
  Step();
  EXPECT_EQ(acknowledged_, 2);
}

TEST_F(ExecutorOrderTest, WhatComesLaterWaitsBehindWhatDoesNotFit) {
  Begin();
  Cancel();
  held_.RefuseOne();
  Step();
  Cancel();  // would fit
  clock_.AdvanceNs(kRetryNs - 1);
  Step();
  EXPECT_EQ(executor_->NextWakeNs(), 1);
  EXPECT_EQ(acknowledged_, 0);
  clock_.AdvanceNs(1);
  Step();
  held_.RefuseOne();  // still no room for the first
  held_.ReleaseOne();
  Step();
  EXPECT_EQ(acknowledged_, 0);
  clock_.AdvanceNs(kRetryNs);
  Step();
  held_.ReleaseOne();
  held_.ReleaseOne();
  Step();
  EXPECT_EQ(acknowledged_, 2);
}

}  // namespace
}  // namespace conclave::orchestrator
