// SPDX-License-Identifier: Apache-2.0
// The stream's state machine without gRPC: each step by hand, and all its callers at once for ThreadSanitizer, which
// cannot see through gRPC.
#include <algorithm>
#include <latch>
#include <thread>

#include "common/bounded_queue.h"
#include "common/hash.h"
#include "common/status.h"
#include "protos/rpc_status.h"
#include "protos/rpc_wire.h"
#include "tests/testing/status_matchers.h"
#include "worker/limits.h"
#include "worker/stream_table.h"
#include "worker/worker_testing.h"

namespace conclave::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Notes what the stream asks for; the test answers.
class FakeTransport final : public StreamTransport {
 public:
  void StartWrite(const grpc::ByteBuffer* bytes) override {
    pb::GenerateResponse event;
    ASSERT_TRUE(rpc::Parse(*bytes, &event).ok());
    written.push_back(event);
    EXPECT_FALSE(write_in_flight) << "one write at a time";
    EXPECT_EQ(finishes, 0) << "no write after Finish";
    write_in_flight = true;
  }
  void Finish(const grpc::Status& with) override {
    EXPECT_FALSE(write_in_flight) << "Finish beside a write";
    ++finishes;
    status = rpc::FromGrpc(with);
  }
  void TryCancel() override {
    EXPECT_EQ(finishes, 0);
    ++cancels;
  }

  Events written;
  bool write_in_flight = false;
  int finishes = 0, cancels = 0;
  absl::Status status;
};

// A stream with everything around it.
struct Stage {
  Stage() : metrics(&host, "test") {
    table.Add(stream);
    stream->SetTransport(&transport);
  }
  void Accept() {
    EXPECT_TRUE(table.TakeId("id", stream.get()).ok());
    EXPECT_TRUE(stream->Accept({"id", 1, {}}));
  }
  void Submit() {
    Accept();
    id = *host.Submit({}, stream);
    stream->Attach(id);
  }
  void CompleteWrite(bool ok = true) {
    transport.write_in_flight = false;
    stream->OnWriteDone(ok);
  }

  FakeHost host;
  SharedClock clock;
  Metrics metrics;
  StreamTable table;
  GenerateStream::Shared shared{&host, &clock, &metrics, &table, "instance", "revision"};
  std::shared_ptr<GenerateStream> stream = std::make_shared<GenerateStream>(&shared);
  FakeTransport transport;
  engine::RequestId id = 0;
};

TEST(GenerateStream, DeltasThatWaitForAWriteAreMergedPerSample) {
  Stage stage;
  stage.Submit();
  stage.stream->OnStarted(1, 0);  // in flight from here on
  for (const char* text : {"a", "b", "c"}) {
    stage.stream->OnDelta(TextDelta(text, 0));
    stage.stream->OnDelta(TextDelta(text, 1));
  }
  EXPECT_EQ(stage.transport.written.size(), 1u);
  stage.CompleteWrite();
  stage.stream->OnDelta(TextDelta("d", 0));  // the first merged delta has left, this is a new one
  stage.CompleteWrite();
  stage.CompleteWrite();
  stage.CompleteWrite();
  ASSERT_EQ(stage.transport.written.size(), 4u);
  EXPECT_EQ(stage.transport.written[1].delta().text(), "abc");
  EXPECT_EQ(stage.transport.written[1].delta().token_count(), 3);
  EXPECT_EQ(stage.transport.written[2].delta().text(), "abc");
  EXPECT_EQ(stage.transport.written[2].delta().sample_index(), 1);
  EXPECT_EQ(stage.transport.written[3].delta().text(), "d");
  EXPECT_EQ(stage.transport.written[3].sequence_number(), 4);
}

TEST(GenerateStream, FinishWaitsForTheQueue) {
  Stage stage;
  stage.Submit();
  stage.stream->OnStarted(1, 0);
  stage.stream->OnDone(absl::OkStatus(), UsageOf(1, 1));
  EXPECT_EQ(stage.transport.finishes, 0);
  stage.CompleteWrite();
  EXPECT_EQ(stage.transport.finishes, 0) << "Usage is being written";
  stage.CompleteWrite();
  EXPECT_EQ(stage.transport.finishes, 1);
  EXPECT_TRUE(stage.transport.status.ok());
  EXPECT_EQ(stage.table.size(), 1);
  stage.stream->OnTransportDone();
  EXPECT_EQ(stage.table.size(), 0);
}

TEST(GenerateStream, TheIdIsFreeBeforeTheClientIsTold) {
  Stage stage;
  stage.Submit();
  stage.stream->OnDone(absl::OkStatus(), {});
  EXPECT_EQ(stage.table.Find("id"), nullptr);
}

TEST(GenerateStream, ACancelBeforeTheEngineKnowsIsPassedOnWhenItDoes) {
  Stage stage;
  stage.Accept();
  stage.stream->OnCancel();
  EXPECT_EQ(stage.transport.finishes, 1);
  stage.stream->OnTransportDone();
  EXPECT_EQ(stage.table.size(), 1) << "Submit is under way, the engine may still call";
  const engine::RequestId id = *stage.host.Submit({}, stage.stream);
  stage.stream->Attach(id);
  EXPECT_TRUE(stage.host.cancelled(id));
  EXPECT_EQ(stage.table.size(), 0);
}

TEST(GenerateStream, ACallThatEndedIsNotAccepted) {
  Stage stage;
  stage.stream->OnCancel();
  EXPECT_TRUE(stage.stream->cancelled());
  EXPECT_FALSE(stage.stream->Accept({"id", 1, {}}));
  stage.stream->Fail(Cancelled("gone"));
  EXPECT_EQ(stage.transport.finishes, 1);
  stage.stream->OnTransportDone();
  EXPECT_EQ(stage.table.size(), 0);
}

TEST(GenerateStream, AFailedWriteIsAGoneClient) {
  Stage stage;
  stage.Submit();
  stage.stream->OnStarted(1, 0);
  stage.stream->OnDelta(TextDelta("a"));
  stage.CompleteWrite(false);
  EXPECT_TRUE(stage.host.cancelled(stage.id));
  EXPECT_EQ(stage.transport.finishes, 1);
  EXPECT_EQ(stage.transport.written.size(), 1u) << "nothing more is written";
}

TEST(GenerateStream, AStalledWriteIsCancelledOnceAndFinishWaitsForIt) {
  Stage stage;
  stage.Submit();
  stage.stream->OnStarted(1, 0);
  stage.clock.AdvanceNs(kStallNsMax);
  stage.stream->Tick();
  stage.stream->Tick();
  EXPECT_EQ(stage.transport.cancels, 1);
  EXPECT_EQ(stage.transport.finishes, 0);
  EXPECT_TRUE(stage.host.cancelled(stage.id));
  stage.stream->OnCancel();
  stage.CompleteWrite(false);
  EXPECT_EQ(stage.transport.finishes, 1);
  stage.stream->OnTransportDone();
  EXPECT_EQ(stage.table.size(), 0);
}

TEST(GenerateStream, TheQueueIsFullAtItsEventsAndAtItsBytes) {
  // Events: Finished ones are never merged.
  Stage events;
  events.Submit();
  events.stream->OnStarted(1, 0);
  for (int64_t i = 1; i < kStreamEventsMax; ++i) {
    EXPECT_TRUE(events.stream->OnDelta(TextDelta("", 0, engine::FinishReason::kStop))) << i;
  }
  EXPECT_FALSE(events.stream->OnDelta(TextDelta("", 0, engine::FinishReason::kStop)));
  // Half of it must leave before the engine goes on: the first half of writes brings no Resume, the next one does.
  for (int64_t i = 0; i < kStreamEventsMax / 2; ++i) {
    EXPECT_EQ(events.host.resumes(events.id), 0) << i;
    events.CompleteWrite();
  }
  EXPECT_EQ(events.host.resumes(events.id), 1);

  Stage bytes;
  bytes.Submit();
  bytes.stream->OnStarted(1, 0);
  const std::string piece(kDeltaMergeBytesMax, 'x');
  int64_t sent = 0;
  while (bytes.stream->OnDelta(TextDelta(piece))) sent += kDeltaMergeBytesMax;
  EXPECT_GE(sent + kDeltaMergeBytesMax, kStreamBytesMax - kDeltaMergeBytesMax);
  EXPECT_LT(sent, kStreamBytesMax);
}

TEST(GenerateStream, AnEarlyEndReplacesTheEnginesCancelled) {
  Stage stage;
  stage.Submit();
  stage.host.set_cancelled_usage(UsageOf(1, 2));
  stage.stream->EndWith(Unavailable("draining"));
  stage.stream->EndWith(Cancelled("later"));
  stage.CompleteWrite();
  EXPECT_EQ(stage.transport.status.code(), absl::StatusCode::kUnavailable);
  ASSERT_EQ(stage.transport.written.size(), 1u);
  EXPECT_TRUE(stage.transport.written[0].has_usage());
}

// Every caller on a thread of its own, for many streams; the transport completes writes from yet another one.
class RacingTransport final : public StreamTransport {
 public:
  enum class Reaction : uint8_t { kWriteDone, kCancel, kDone };

  void StartWrite(const grpc::ByteBuffer* bytes) override {
    bytes_ += static_cast<int64_t>(bytes->Length());
    Post(Reaction::kWriteDone);
  }
  void Finish(const grpc::Status&) override { Post(Reaction::kDone); }
  void TryCancel() override { Post(Reaction::kCancel); }
  void Post(Reaction reaction) { EXPECT_TRUE(reactions_.TryPush(std::move(reaction))); }

  // Plays gRPC until the call is done.
  void Run(GenerateStream* stream) {
    while (true) {
      for (const Reaction reaction : reactions_.WaitAndDrain()) {
        if (reaction == Reaction::kWriteDone) stream->OnWriteDone(true);
        if (reaction == Reaction::kCancel) stream->OnCancel();
        if (reaction == Reaction::kDone) return stream->OnTransportDone();
      }
    }
  }

 private:
  int64_t bytes_ = 0;  // not guarded on purpose: the stream promises one caller at a time
  BoundedQueue<Reaction> reactions_{10'000};
};

TEST(GenerateStream, AllCallersAtOnceEndInOneFinish) {
  constexpr uint64_t kSeed = 20240607;
  for (uint64_t round = 0; round < 200; ++round) {
    const uint64_t random = Mix64(kSeed + round);
    Stage stage;
    auto transport = std::make_unique<RacingTransport>();
    stage.stream->SetTransport(transport.get());
    stage.Accept();
    stage.id = *stage.host.Submit({}, stage.stream);
    std::latch begin(4);
    std::thread grpc_thread([&] {
      begin.arrive_and_wait();
      transport->Run(stage.stream.get());
    });
    std::thread engine_thread([&] {
      begin.arrive_and_wait();
      stage.stream->OnStarted(1, 0);
      for (int i = 0; i < 20 && !stage.host.cancelled(stage.id); ++i) stage.stream->OnDelta(TextDelta("x", i % 3));
      if (stage.host.FinishOnce(stage.id)) stage.stream->OnDone(absl::OkStatus(), UsageOf(1, 20));
    });
    std::thread meddler([&] {
      begin.arrive_and_wait();
      if (random % 4 == 0) transport->Post(RacingTransport::Reaction::kCancel);
      if (random % 4 == 1) stage.stream->EndWith(Unavailable("draining"));
      if (random % 4 == 2) stage.clock.AdvanceNs(kStallNsMax);
      for (int i = 0; i < 5; ++i) stage.stream->Tick();
    });
    begin.arrive_and_wait();
    stage.stream->Attach(stage.id);
    for (std::thread* thread : {&grpc_thread, &engine_thread, &meddler}) thread->join();
    EXPECT_EQ(stage.table.size(), 0) << "seed " << kSeed << " round " << round;
  }
}

}  // namespace
}  // namespace conclave::worker
