// SPDX-License-Identifier: Apache-2.0
// One Generate call: the engine pushes events on its step thread, gRPC takes them one write at a time.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "conclave/inference/v1/inference.pb.h"
#include "engine/engine.h"
#include "worker/convert.h"
#include "worker/limits.h"
#include "worker/metrics.h"
#include "worker/model_host.h"

namespace conclave::worker {

class GenerateStream;

// Who keeps the streams.
class StreamOwner {
 public:
  virtual ~StreamOwner() = default;
  // The engine is finished with the request; its id may be used again. At most once, before the client is told.
  virtual void OnRequestEnded(GenerateStream* stream) = 0;
  // Neither gRPC nor the engine will touch the stream again. Once.
  virtual void OnStreamClosed(GenerateStream* stream) = 0;
};

// gRPC's half of a call, as the stream sees it. Called by one thread at a time, and never after OnTransportDone.
class StreamTransport {
 public:
  virtual ~StreamTransport() = default;
  // OnWriteDone follows. `bytes` stays as it is until then.
  virtual void StartWrite(const grpc::ByteBuffer* bytes) = 0;
  // OnTransportDone follows, as the last reaction. Once, with no write in flight.
  virtual void Finish(const grpc::Status& status) = 0;
  // A write in flight fails soon; OnCancel may follow. Before Finish.
  virtual void TryCancel() = 0;
};

// The state machine between a pushing engine and a client that may read slowly, cancel or vanish.
//
// Thread-safe: called by the engine's step thread (GenerateSink), gRPC's threads (reactions), the call pool and the
// housekeeping tick, in any interleaving. One mutex guards all state; nothing outside is called while it is held.
//
// Invariants. At most one write is in flight. Finish is called once, after the last write and never beside one. The
// queue holds what the engine pushed and gRPC has not taken: once it is full the engine is told to pause, and to resume
// when it is half empty; waiting deltas of a sample are merged, so that a slow reader gets fewer, longer messages.
//
// Lifetime: shared by the owner, the engine (as a sink) and the transport, which goes after OnTransportDone.
class GenerateStream final : public engine::GenerateSink, public std::enable_shared_from_this<GenerateStream> {
 public:
  // What all streams share; outlives them.
  struct Shared {
    ModelHost* host;
    const Clock* clock;
    Metrics* metrics;
    StreamOwner* owner;
    std::string instance_id;
    std::string model_revision;
  };
  // What the parsed request decides.
  struct Request {
    std::string id;
    int64_t seed = 0;
    DeltaFields fields;
  };

  explicit GenerateStream(const Shared* shared);
  // Once, before anything else.
  void SetTransport(StreamTransport* transport);

  // ---- From the call pool, in this order.
  // Before Submit. False when the call has ended meanwhile: do not submit.
  bool Accept(Request request);
  // After a successful Submit (whose events may have come already).
  void Attach(engine::RequestId id);
  // Instead of Submit or Attach: the call ends with this error.
  void Fail(const absl::Status& status);

  // ---- From anywhere.
  // Ends the call early with `status`; work done is reported first. Idempotent.
  void EndWith(const absl::Status& status);
  // Ends the call now, whatever waits to be read.
  void Abandon();
  // Cancels a stalled reader, and repeats a Resume that the engine may have missed.
  void Tick();
  bool cancelled() const;
  std::string request_id() const;

  // ---- Reactions of the transport
  void OnWriteDone(bool ok);
  void OnCancel();
  void OnTransportDone();

  // ---- engine::GenerateSink
  void OnStarted(int64_t prompt_tokens, int64_t cached_prompt_tokens) override;
  bool OnDelta(engine::SampleDelta delta) override;
  void OnDone(const absl::Status& status, const engine::Usage& usage) override;

 private:
  struct Event {
    pb::GenerateResponse message;
    int64_t bytes = 0;  // on the wire
    int64_t held = 0;   // in memory, about
  };
  struct Sample {
    Event* waiting_delta = nullptr;  // in queue_, may still be merged into
    int64_t output_tokens = 0;
    int64_t last_token_ns = 0;
  };
  // What to do once the mutex is released.
  struct Actions {
    bool write = false, finish = false, cancel_call = false, closed = false;
    bool resume_engine = false, cancel_engine = false;
  };

  void Push(pb::GenerateResponse message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PushDelta(pb::Delta delta, Sample* sample) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ObserveTokens(int64_t tokens, Sample* sample) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropQueue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool QueueFull() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Decides the next step of the state machine, and takes its flags, so that no other thread takes the same step.
  Actions Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DecideWrite(Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Act(const Actions& actions) ABSL_LOCKS_EXCLUDED(mutex_);

  const Shared* const shared_;
  const int64_t arrival_ns_;

  mutable Mutex mutex_;
  StreamTransport* transport_ ABSL_GUARDED_BY(mutex_) = nullptr;  // null again after OnTransportDone
  Request request_ ABSL_GUARDED_BY(mutex_);
  std::optional<engine::RequestId> engine_id_ ABSL_GUARDED_BY(mutex_);

  std::deque<Event> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t queue_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int32_t, Sample> samples_ ABSL_GUARDED_BY(mutex_);
  int64_t sequence_number_ ABSL_GUARDED_BY(mutex_) = 0;
  bool first_token_seen_ ABSL_GUARDED_BY(mutex_) = false;

  grpc::ByteBuffer writing_ ABSL_GUARDED_BY(mutex_);  // must outlive the write in flight
  bool write_in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t write_began_ns_ ABSL_GUARDED_BY(mutex_) = 0;

  bool paused_ ABSL_GUARDED_BY(mutex_) = false;           // OnDelta said false, Resume was not yet called
  bool resume_unseen_ ABSL_GUARDED_BY(mutex_) = false;    // Resume was called, no event came since
  bool client_gone_ ABSL_GUARDED_BY(mutex_) = false;      // cancelled, vanished, or deadline passed
  bool engine_told_ ABSL_GUARDED_BY(mutex_) = false;      // Cancel was called
  bool submitted_ ABSL_GUARDED_BY(mutex_) = false;        // Accept said true and Fail was not called
  bool engine_done_ ABSL_GUARDED_BY(mutex_) = false;      // the sink's OnDone came
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;        // the call is to be cancelled if a write is in flight
  bool call_cancelled_ ABSL_GUARDED_BY(mutex_) = false;   // TryCancel was called
  bool cancelling_call_ ABSL_GUARDED_BY(mutex_) = false;  // inside TryCancel: holds Finish back
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;         // Finish was called
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;           // the owner was told
  std::optional<absl::Status> early_end_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> final_ ABSL_GUARDED_BY(mutex_);  // what the call ends with, once the queue is empty
};

}  // namespace conclave::worker
