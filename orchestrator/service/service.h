// SPDX-License-Identifier: Apache-2.0
// conclave.deliberation.v1.DeliberationService over an Executor.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "conclave/deliberation/v1/deliberation.grpc.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/run/task_thread.h"
#include "orchestrator/service/event_stream.h"

namespace conclave::orchestrator {

// Open Run and Watch calls at most; more are refused with RESOURCE_EXHAUSTED OVERLOADED.
inline constexpr int32_t kStreamsMax = 4'096;

// Thread-safe. Compiling graphs and reading the store happen on threads of their own, never in a reaction.
// Lifetime: outlives the gRPC server it is registered with; the executor, the backend and the graphs outlive it.
class Service final : public deliberation::v1::DeliberationService::CallbackService {
 public:
  struct Options {
    Executor* executor = nullptr;
    Backend* backend = nullptr;
    GraphLibrary* graphs = nullptr;
    std::vector<deliberation::v1::Binding> bindings;  // of the fleet
    const Clock* clock = &Clock::System();
  };
  explicit Service(Options options) : options_(std::move(options)) {}

  using Context = grpc::CallbackServerContext;
  grpc::ServerWriteReactor<deliberation::v1::RunResponse>* Run(Context* context,
                                                               const deliberation::v1::RunRequest* request) override;
  grpc::ServerWriteReactor<deliberation::v1::WatchResponse>* Watch(
      Context* context, const deliberation::v1::WatchRequest* request) override;
  grpc::ServerUnaryReactor* GetRun(Context* context, const deliberation::v1::GetRunRequest* request,
                                   deliberation::v1::GetRunResponse* response) override;
  grpc::ServerUnaryReactor* ListRuns(Context* context, const deliberation::v1::ListRunsRequest* request,
                                     deliberation::v1::ListRunsResponse* response) override;
  grpc::ServerUnaryReactor* CancelRun(Context* context, const deliberation::v1::CancelRunRequest* request,
                                      deliberation::v1::CancelRunResponse* response) override;
  grpc::ServerUnaryReactor* ValidateGraph(Context* context, const deliberation::v1::ValidateGraphRequest* request,
                                          deliberation::v1::ValidateGraphResponse* response) override;
  grpc::ServerUnaryReactor* ListMembers(Context* context, const deliberation::v1::ListMembersRequest* request,
                                        deliberation::v1::ListMembersResponse* response) override;

  // New runs are refused with UNAVAILABLE DRAINING.
  void BeginDrain() { draining_ = true; }
  // Heartbeats; call about once a second.
  void Tick();
  // After the gRPC server has shut down: nothing of it runs any more.
  void Join() { work_.Join(); }

 private:
  // A stream that the next Tick knows; or why it cannot be opened.
  absl::Status Admit(const std::shared_ptr<EventStream>& stream);
  void BeginRun(const deliberation::v1::RunRequest& request, const std::shared_ptr<EventStream>& stream);
  absl::StatusOr<NewRun> Build(const deliberation::v1::RunRequest& request) const;
  absl::Status FillValidation(const deliberation::v1::ValidateGraphRequest& request,
                              deliberation::v1::ValidateGraphResponse* response) const;

  const Options options_;
  std::atomic<bool> draining_ = false;
  TaskThread work_;
  Mutex mutex_;
  std::vector<std::shared_ptr<EventStream>> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::orchestrator
