// SPDX-License-Identifier: Apache-2.0
// A second start on the store of a first.
#include <atomic>

#include "orchestrator/run/executor_testing.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

TEST_F(ExecutorTest, WhatWasUnfinishedGoesOnWithoutRepeatingAFinishedCall) {
  const auto slow_after = [](int fast) {
    auto count = std::make_shared<std::atomic<int>>(0);
    return [count, fast](const CallRequest&) { return Says("#### 7", (*count)++ < fast ? 0 : kNever); };
  };
  std::string run_id;
  std::vector<pb::Event> before;
  {
    FakeBackend backend(Members(), slow_after(4));
    auto executor = Start(store_.get(), &backend);
    auto recorder = std::make_shared<Recorder>();
    const auto started = StartAndWait(executor.get(), MakeRun("q"), recorder);
    ASSERT_OK(started);
    run_id = started->run_id;
    recorder->AwaitEvents(2 + 6 + 4);  // four of six calls have finished
    executor->Stop();
    EXPECT_THAT(recorder->Await(), StatusIs(absl::StatusCode::kUnavailable));
    before = recorder->events();
  }
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store_.get(), &backend);
  auto recorder = std::make_shared<Recorder>();
  executor->Watch(run_id, 0, false, recorder);
  ASSERT_OK(recorder->Await());
  const std::vector<pb::Event> events = recorder->events();
  ExpectWhole(events);
  ASSERT_GT(events.size(), before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(events[i].SerializeAsString(), before[i].SerializeAsString());
  }
  EXPECT_EQ(backend.started().size(), static_cast<size_t>(kCalls - 4));
}

TEST_F(ExecutorTest, ACancellationSurvivesARestart) {
  std::string run_id;
  {
    FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
    auto executor = Start(store_.get(), &backend);
    const auto started = StartAndWait(executor.get(), MakeRun("q"), nullptr);
    ASSERT_OK(started);
    run_id = started->run_id;
    backend.AwaitStarted(6);
  }
  // As a process would leave it that died right after it acknowledged the cancellation.
  const int64_t last = store_->GetRun(run_id)->last_sequence_number;
  ASSERT_OK(WriteAndWait(store_.get(), {RecordInput{run_id, last, EncodeInput(CancelRequested{})}}).status);
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store_.get(), &backend);
  auto recorder = std::make_shared<Recorder>();
  executor->Watch(run_id, 0, false, recorder);
  ASSERT_OK(recorder->Await());
  ExpectWhole(recorder->events());
  EXPECT_EQ(recorder->events().back().run_finished().state(), pb::RUN_STATE_CANCELLED);
}

TEST_F(ExecutorTest, ARunThatDoesNotReplayFailsWithAReason) {
  std::string run_id;
  {
    FakeBackend backend(Members(), [](const CallRequest&) { return Says("#### 1", kNever); });
    auto executor = Start(store_.get(), &backend);
    run_id = StartAndWait(executor.get(), MakeRun("q"), nullptr)->run_id;
    backend.AwaitStarted(6);
  }
  pb::Event foreign;
  foreign.set_run_id(run_id);
  foreign.set_sequence_number(store_->GetRun(run_id)->last_sequence_number + 1);
  foreign.set_node_path("nowhere");
  foreign.mutable_node_started();
  ASSERT_OK(
      WriteAndWait(store_.get(), {AppendEvents{run_id, foreign.sequence_number(), {EncodeEvent(foreign)}}}).status);
  FakeBackend backend(Members(), Fixed);
  auto executor = Start(store_.get(), &backend);
  const auto run = GetAndWait(executor.get(), run_id);
  ASSERT_OK(run);
  EXPECT_EQ(run->state(), pb::RUN_STATE_FAILED);
  EXPECT_FALSE(run->message().empty());
  auto recorder = std::make_shared<Recorder>();
  executor->Watch(run_id, 0, false, recorder);
  ASSERT_OK(recorder->Await());
  EXPECT_EQ(recorder->events().back().run_finished().code(), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_TRUE(backend.started().empty());
}

TEST_F(ExecutorTest, ARunWhoseMembersAreNotHereWaitsAndCanBeCancelled) {
  std::string run_id;
  {
    auto count = std::make_shared<std::atomic<int>>(0);
    FakeBackend backend(Members(), [=](const CallRequest&) { return Says("#### 1", (*count)++ < 4 ? 0 : kNever); });
    auto executor = Start(store_.get(), &backend);
    auto recorder = std::make_shared<Recorder>();
    run_id = StartAndWait(executor.get(), MakeRun("q"), recorder)->run_id;
    recorder->AwaitEvents(2 + 6 + 4);  // four of six calls have finished
  }
  FakeBackend other({"stranger"}, Fixed);
  auto executor = Start(store_.get(), &other);
  ASSERT_EQ(executor->Parked().size(), 1u);
  EXPECT_THAT(executor->Parked()[0].second, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("\"m/a\"")));
  auto recorder = std::make_shared<Recorder>();
  executor->Watch(run_id, 0, false, recorder);
  EXPECT_THAT(recorder->Await(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(*CancelAndWait(executor.get(), run_id), pb::RUN_STATE_CANCELLED);
  const auto ended = GetAndWait(executor.get(), run_id);
  EXPECT_EQ(ended->state(), pb::RUN_STATE_CANCELLED);
  EXPECT_EQ(ended->ledger().calls(), 4) << "what was done counts, whoever ends the run";
  EXPECT_TRUE(executor->Parked().empty());
}

}  // namespace
}  // namespace conclave::orchestrator
