// SPDX-License-Identifier: Apache-2.0
// Clients that read slowly or not at all.
#include "common/status.h"
#include "tests/testing/status_matchers.h"
#include "worker/limits.h"
#include "worker/worker_testing.h"

namespace conclave::worker {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;

// Pushes 1 KiB deltas until the stream asks to pause; returns what it took.
std::string PushUntilPaused(engine::GenerateSink* sink) {
  std::string sent;
  for (int i = 0;; ++i) {
    const std::string piece = fmt::format("{:<1024}", i);
    sent += piece;
    if (!sink->OnDelta(TextDelta(piece))) return sent;
  }
}

TEST(SlowReader, ASlowReaderPausesItsRequestAndLosesNothing) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("x"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  std::string sent = PushUntilPaused(submitted.sink.get());
  // Queue plus what gRPC itself holds: bounded, and little.
  EXPECT_GE(static_cast<int64_t>(sent.size()), kStreamBytesMax);
  EXPECT_LT(static_cast<int64_t>(sent.size()), kStreamBytesMax + (512 << 10));
  EXPECT_EQ(worker.host.resumes(submitted.id), 0);
  // The step that filled the queue may bring other deltas still.
  EXPECT_FALSE(submitted.sink->OnDelta(TextDelta("more")));
  sent += "more";

  std::string got;
  while (worker.host.resumes(submitted.id) == 0) got += call.Read()->delta().text();
  EXPECT_TRUE(submitted.sink->OnDelta(TextDelta("!", 0, engine::FinishReason::kStop)));
  submitted.sink->OnDone(absl::OkStatus(), {});
  Events events;
  EXPECT_OK(call.Finish(&events));
  EXPECT_EQ(got + TextOf(events), sent + "!");
}

TEST(SlowReader, AStalledReaderIsCancelledAfterThirtySeconds) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("x"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  PushUntilPaused(submitted.sink.get());
  worker.clock.AdvanceNs(kStallNsMax - 1);
  worker.server->Tick();
  EXPECT_FALSE(worker.host.cancelled(submitted.id));
  worker.clock.AdvanceNs(1);
  worker.server->Tick();
  worker.host.AwaitCancelled(submitted.id);
  EXPECT_THAT(call.Finish(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(worker.server->WaitIdle(INT64_MAX / 2));
}

TEST(SlowReader, AStalledReaderDoesNotHoldADrainUp) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("x"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  PushUntilPaused(submitted.sink.get());
  submitted.sink->OnDone(absl::OkStatus(), {});
  worker.server->BeginDrain(0);
  worker.clock.AdvanceNs(kDrainLingerNs - 1);
  worker.server->Tick();
  EXPECT_FALSE(worker.server->WaitIdle(0));
  worker.clock.AdvanceNs(1);
  worker.server->Tick();
  EXPECT_TRUE(worker.server->WaitIdle(INT64_MAX / 2));
  EXPECT_THAT(call.Finish(), StatusIs(absl::StatusCode::kCancelled));
}

TEST(SlowReader, AResumeIsRepeatedUntilTheEngineGoesOn) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("x"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  PushUntilPaused(submitted.sink.get());
  while (worker.host.resumes(submitted.id) == 0) ASSERT_TRUE(call.Read().has_value());
  // The engine may have been told before it noted the pause: it is told again until an event comes.
  const int32_t resumes = worker.host.resumes(submitted.id);
  worker.server->Tick();
  EXPECT_GT(worker.host.resumes(submitted.id), resumes);
  EXPECT_TRUE(submitted.sink->OnDelta(TextDelta("on")));
  const int32_t settled = worker.host.resumes(submitted.id);
  worker.server->Tick();
  EXPECT_EQ(worker.host.resumes(submitted.id), settled);
  submitted.sink->OnDone(absl::OkStatus(), {});
  EXPECT_OK(call.Finish());
}

}  // namespace
}  // namespace conclave::worker
