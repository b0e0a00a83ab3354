// SPDX-License-Identifier: Apache-2.0
// conclave.deliberation.v1.DeliberationService over an Executor.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/call_pool.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "conclave/deliberation/v1/deliberation.grpc.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/service/event_stream.h"

namespace conclave::orchestrator {

// Open Run and Watch calls at most; more are refused with RESOURCE_EXHAUSTED OVERLOADED.
inline constexpr int32_t kStreamsMax = 4'096;

// Run and ValidateGraph calls that wait for a thread to parse them; more are refused with OVERLOADED. Parsing can
// expand a message fifty-fold: those larger than kLargeCallBytes are parsed one at a time.
inline constexpr int32_t kWaitingCallsMax = 1'024;
inline constexpr int64_t kWaitingCallBytesMax = 64 << 20;
inline constexpr int64_t kLargeCallBytes = 256 << 10;
inline constexpr int32_t kPoolThreads = 2;

// Every method raw: gRPC hands over bytes, and this room parses them once it has room for them (why:
// protos/rpc_wire.h).
namespace raw {
using Base = deliberation::v1::DeliberationService;
using Runs = Base::WithRawCallbackMethod_Run<Base::WithRawCallbackMethod_Watch<Base::Service>>;
using State = Base::WithRawCallbackMethod_GetRun<Base::WithRawCallbackMethod_ListRuns<Runs>>;
using Control = Base::WithRawCallbackMethod_CancelRun<Base::WithRawCallbackMethod_ListMembers<State>>;
using DeliberationService = Base::WithRawCallbackMethod_ValidateGraph<Control>;
}  // namespace raw

// Thread-safe. Parsing runs, compiling graphs and reading the store happen on threads of their own, never in a
// reaction. Lifetime: outlives the gRPC server it is registered with; the executor, the backend and the graphs outlive
// it.
class Service final : public raw::DeliberationService {
 public:
  struct Options {
    Executor* executor = nullptr;
    Backend* backend = nullptr;
    GraphLibrary* graphs = nullptr;
    std::vector<deliberation::v1::Binding> bindings;  // of the fleet
    const Clock* clock = &Clock::System();
    CallPool::Limits calls = {kPoolThreads, kWaitingCallsMax, kWaitingCallBytesMax, kLargeCallBytes};
  };
  explicit Service(Options options);

  using Context = grpc::CallbackServerContext;
  using EventWriter = grpc::ServerWriteReactor<grpc::ByteBuffer>;
  EventWriter* Run(Context* context, const grpc::ByteBuffer* bytes) override;
  EventWriter* Watch(Context* context, const grpc::ByteBuffer* bytes) override;
  grpc::ServerUnaryReactor* GetRun(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* ListRuns(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* CancelRun(Context* context, const grpc::ByteBuffer* bytes,
                                      grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* ListMembers(Context* context, const grpc::ByteBuffer* bytes,
                                        grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* ValidateGraph(Context* context, const grpc::ByteBuffer* bytes,
                                          grpc::ByteBuffer* reply) override;

  // New runs are refused with UNAVAILABLE DRAINING.
  void BeginDrain() { draining_ = true; }
  // Heartbeats; call about once a second.
  void Tick();
  // After the gRPC server has shut down: nothing of it runs any more.
  void Join() { pool_.Join(); }

 private:
  // A stream that the next Tick knows; or why it cannot be opened.
  absl::Status Admit(const std::shared_ptr<EventStream>& stream);
  void BeginRun(const grpc::ByteBuffer& bytes, const std::shared_ptr<EventStream>& stream);
  absl::Status FillValidation(const deliberation::v1::ValidateGraphRequest& request,
                              deliberation::v1::ValidateGraphResponse* response) const;

  const Options options_;
  std::atomic<bool> draining_ = false;
  CallPool pool_;
  Mutex mutex_;
  std::vector<std::shared_ptr<EventStream>> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::orchestrator
