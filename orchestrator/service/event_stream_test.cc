// SPDX-License-Identifier: Apache-2.0
// The stream's state machine without gRPC: a transport whose reader is as slow as the test wants.
#include "orchestrator/service/event_stream.h"

#include <grpcpp/grpcpp.h>

#include "common/check.h"
#include "orchestrator/backend/fake_backend.h"
#include "orchestrator/run/stored_run.h"
#include "orchestrator/store/memory_store.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::StatusIs;

class SlowTransport final : public EventTransport {
 public:
  void Write(const pb::Event& event) override {
    MutexLock lock(&mutex_);
    CONCLAVE_CHECK_MSG(!writing_ && !finished_.has_value(), "a write beside a write or after Finish");
    writing_ = true;
    written_.push_back(event);
    changed_.SignalAll();
  }
  void Finish(const grpc::Status& status) override {
    MutexLock lock(&mutex_);
    CONCLAVE_CHECK_MSG(!writing_ && !finished_.has_value(), "Finish beside a write or twice");
    finished_ = rpc::FromGrpc(status);
    changed_.SignalAll();
  }
  void AwaitWrite() {
    MutexLock lock(&mutex_);
    while (!writing_) changed_.Wait(&mutex_);
    writing_ = false;
  }
  absl::Status AwaitFinish() {
    MutexLock lock(&mutex_);
    while (!finished_.has_value()) changed_.Wait(&mutex_);
    return *finished_;
  }
  bool writing() const {
    MutexLock lock(&mutex_);
    return writing_;
  }
  std::vector<pb::Event> written() const {
    MutexLock lock(&mutex_);
    return written_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> finished_ ABSL_GUARDED_BY(mutex_);
  std::vector<pb::Event> written_ ABSL_GUARDED_BY(mutex_);
};

std::shared_ptr<const pb::Event> Numbered(int64_t number, size_t bytes = 0) {
  auto event = std::make_shared<pb::Event>();
  event->set_run_id("r");
  event->set_sequence_number(number);
  event->mutable_node_started()->set_kind(std::string(bytes, 'k'));
  return event;
}

class EventStreamTest : public ::testing::Test {
 protected:
  EventStreamTest() : backend_({}, [](const CallRequest&) { return Says(""); }) {
    executor_ = *Executor::Start({.store = store_.get(), .backend = &backend_});
    stream_ =
        std::make_shared<EventStream>(EventStream::Options{.executor = executor_.get(), .clock = &clock_}, &transport_);
  }
  void TearDown() override { stream_->OnTransportDone(); }

  std::unique_ptr<Store> store_ = NewMemoryStore();
  FakeBackend backend_;
  ManualClock clock_;
  std::unique_ptr<Executor> executor_;
  SlowTransport transport_;
  std::shared_ptr<EventStream> stream_;
};

TEST_F(EventStreamTest, OneWriteAtATimeInOrderThenTheEnd) {
  stream_->Observe("r", {});
  for (int64_t i = 1; i <= 3; ++i) stream_->OnEvent(Numbered(i));
  stream_->OnEnd(absl::OkStatus());
  for (int64_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(transport_.written().size(), static_cast<size_t>(i));
    transport_.AwaitWrite();
    stream_->OnWriteDone(true);
  }
  EXPECT_TRUE(transport_.AwaitFinish().ok());
}

TEST_F(EventStreamTest, AReaderThatFallsTooFarBehindIsToldWhereToGoOn) {
  stream_->Observe("r", {});
  // The first is being written, then as many wait as may.
  int64_t number = 1;
  for (; number <= static_cast<int64_t>(kSubscriberEventsMax) + 1; ++number) stream_->OnEvent(Numbered(number));
  stream_->OnEvent(Numbered(number));
  transport_.AwaitWrite();
  stream_->OnWriteDone(true);
  const absl::Status end = transport_.AwaitFinish();
  EXPECT_THAT(end, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(rpc::Reason(end), "SUBSCRIBER_TOO_SLOW");
  EXPECT_EQ(rpc::ReasonMetadata(end)["last_sequence_number"], "1");
  EXPECT_EQ(transport_.written().size(), 1u);
}

TEST_F(EventStreamTest, ExactlyAsManyEventsAsMayWaitDoWait) {
  stream_->Observe("r", {});
  for (int64_t i = 1; i <= static_cast<int64_t>(kSubscriberEventsMax) + 1; ++i) stream_->OnEvent(Numbered(i));
  stream_->OnEnd(absl::OkStatus());
  for (size_t i = 0; i <= kSubscriberEventsMax; ++i) {
    transport_.AwaitWrite();
    stream_->OnWriteDone(true);
  }
  EXPECT_TRUE(transport_.AwaitFinish().ok());
}

TEST_F(EventStreamTest, BytesAreBoundedToo) {
  stream_->Observe("r", {});
  stream_->OnEvent(Numbered(1));
  stream_->OnEvent(Numbered(2, static_cast<size_t>(kSubscriberBytesMax)));  // alone, one may be larger
  stream_->OnEvent(Numbered(3));
  transport_.AwaitWrite();
  stream_->OnWriteDone(true);
  EXPECT_EQ(rpc::Reason(transport_.AwaitFinish()), "SUBSCRIBER_TOO_SLOW");
}

TEST_F(EventStreamTest, HeartbeatsComeOnlyOnAnIdleStream) {
  stream_->Tick();  // not begun
  clock_.AdvanceNs(kHeartbeatNs + 1);
  stream_->Tick();
  EXPECT_TRUE(transport_.written().empty());
  stream_->Observe("r", {});
  stream_->OnEvent(Numbered(1));
  transport_.AwaitWrite();
  stream_->OnWriteDone(true);
  stream_->Tick();
  EXPECT_EQ(transport_.written().size(), 1u);
  clock_.AdvanceNs(kHeartbeatNs);
  stream_->Tick();
  ASSERT_EQ(transport_.written().size(), 2u);
  EXPECT_EQ(transport_.written()[1].heartbeat().last_sequence_number(), 1);
  EXPECT_EQ(transport_.written()[1].sequence_number(), 0);
  stream_->OnCancel();
  transport_.AwaitWrite();
  stream_->OnWriteDone(false);
  EXPECT_THAT(transport_.AwaitFinish(), StatusIs(absl::StatusCode::kCancelled));
}

// A long record of a run that nobody runs is read page by page, at the reader's pace.
TEST_F(EventStreamTest, WhatIsStoredIsPulledNotPushed) {
  constexpr int64_t kEvents = 3'000;
  std::vector<std::string> records;
  for (int64_t i = 1; i <= kEvents; ++i) records.push_back(EncodeEvent(*Numbered(i)));
  pb::Event last;
  last.set_run_id("r");
  last.set_sequence_number(kEvents + 1);
  last.mutable_run_finished()->set_state(pb::RUN_STATE_SUCCEEDED);
  records.push_back(EncodeEvent(last));
  ASSERT_TRUE(
      WriteAndWait(store_.get(), {CreateRun{.run_id = "r"}, AppendEvents{"r", 1, records}, UpdateRun{"r", "", true}})
          .status.ok());
  stream_->Follow("r", 10, {});
  for (int64_t i = 11; i <= kEvents + 1; ++i) {
    transport_.AwaitWrite();
    stream_->OnWriteDone(true);
  }
  EXPECT_TRUE(transport_.AwaitFinish().ok());
  const auto written = transport_.written();
  ASSERT_EQ(written.size(), static_cast<size_t>(kEvents + 1 - 10));
  for (size_t i = 0; i < written.size(); ++i) EXPECT_EQ(written[i].sequence_number(), static_cast<int64_t>(i) + 11);
}

}  // namespace
}  // namespace conclave::orchestrator
