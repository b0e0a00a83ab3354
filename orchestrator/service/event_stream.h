// SPDX-License-Identifier: Apache-2.0
// One Run or Watch call: events of a run, pulled from the store until it has caught up, then pushed by the executor,
// written to gRPC one at a time.
#pragma once

#include <grpcpp/support/status.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/run/executor.h"

namespace conclave::orchestrator {

// What waits for a reader at most. More: the stream ends with SUBSCRIBER_TOO_SLOW and the last number it wrote.
inline constexpr size_t kSubscriberEventsMax = 1'024;
inline constexpr int64_t kSubscriberBytesMax = 1 << 20;
inline constexpr int64_t kHeartbeatNs = 10'000'000'000;

// gRPC's half of the call. Called by one thread at a time, and never after EventStream::OnTransportDone.
class EventTransport {
 public:
  virtual ~EventTransport() = default;
  // EventStream::OnWriteDone follows.
  virtual void Write(const deliberation::v1::Event& event) = 0;
  // Once, with no write in flight. EventStream::OnTransportDone follows.
  virtual void Finish(const grpc::Status& status) = 0;
};

// Thread-safe: called by the executor (RunObserver), its reader thread, gRPC's threads and a ticking thread. One mutex
// guards all state; nothing outside is called while it is held.
class EventStream final : public RunObserver, public std::enable_shared_from_this<EventStream> {
 public:
  struct Options {
    Executor* executor = nullptr;
    const Clock* clock = &Clock::System();
  };
  // `transport` must live until OnTransportDone.
  EventStream(Options options, EventTransport* transport);

  // What the reader asked for.
  struct Reading {
    bool stream_tokens = false;
    bool cancel_on_disconnect = false;  // the run, when the reader goes before its end
  };

  // ---- How it begins: one of these.
  // Pulls what is stored after a number, then follows.
  void Follow(std::string run_id, int64_t after_sequence_number, const Reading& reading);
  // A new run that this already observes.
  void Observe(std::string run_id, const Reading& reading);
  // There is no run.
  void Fail(const absl::Status& status);

  // ---- RunObserver
  void OnEvent(const std::shared_ptr<const deliberation::v1::Event>& event) override;
  void OnEnd(const absl::Status& status) override;

  // ---- From the transport
  void OnWriteDone(bool ok);
  void OnCancel();
  void OnTransportDone();

  // A heartbeat, if nothing was written for kHeartbeatNs.
  void Tick();
  // "" until one of the beginnings.
  std::string run_id() const;
  bool ended() const;
  // Nobody reads any more: whatever would be done for the call is in vain.
  bool reader_gone() const;

 private:
  struct Actions {
    std::shared_ptr<const deliberation::v1::Event> write;
    bool finish = false;
    grpc::Status status;
    bool pull = false;
    bool unwatch = false;
    bool cancel_run = false;
  };
  void EndLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Actions NextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(Actions actions);
  void Pull(bool last_chance);

  const Options options_;
  mutable Mutex mutex_;
  EventTransport* transport_ ABSL_GUARDED_BY(mutex_);
  std::string run_id_ ABSL_GUARDED_BY(mutex_);
  Reading reading_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<const deliberation::v1::Event>> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t queue_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t last_queued_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t last_written_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t last_write_ns_ ABSL_GUARDED_BY(mutex_) = 0;
  bool pulling_ ABSL_GUARDED_BY(mutex_) = false;     // the store still has what must come first
  bool pull_asked_ ABSL_GUARDED_BY(mutex_) = false;  // a read is under way
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool reader_gone_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;     // Finish once the queue is empty
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;   // Finish was called
  bool observing_ ABSL_GUARDED_BY(mutex_) = false;  // the executor may call
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::orchestrator
