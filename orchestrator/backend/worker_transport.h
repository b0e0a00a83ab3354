// SPDX-License-Identifier: Apache-2.0
// How workers are reached: gRPC, or what a simulation plays. Workers are indices.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "conclave/inference/v1/inference.pb.h"
#include "orchestrator/backend/worker_call.h"
#include "protos/rpc_endpoint.h"

namespace conclave::orchestrator {

// Thread-safe. Callbacks come exactly once, from any thread, even before the method has returned.
class WorkerTransport {
 public:
  virtual ~WorkerTransport() = default;
  // Not begun yet.
  virtual std::shared_ptr<WorkerCall> MakeCall(int32_t worker, WorkerCall::Start start) = 0;
  // Waits for the worker to come up, up to a limit of its own.
  virtual void GetModel(int32_t worker,
                        std::function<void(const absl::Status&, const inference::v1::GetModelResponse&)> done) = 0;
  virtual void GetLoad(int32_t worker,
                       std::function<void(const absl::Status&, const inference::v1::GetLoadResponse&)> done) = 0;
  // Tells the worker that nobody waits for these any more.
  virtual void CancelRequests(int32_t worker, const std::vector<std::string>& request_ids,
                              std::function<void(const absl::Status&)> done) = 0;
  // Ends what is asked and not answered, with CANCELLED, and whatever is asked from now on; calls are no matter of it.
  virtual void EndAsking() = 0;

  // ---- Pinned prefixes: here for transports that have none.
  using Pinned = std::function<void(const absl::Status&, const inference::v1::PinPrefixResponse&)>;
  virtual void PinPrefix(int32_t worker, inference::v1::PinPrefixRequest request, Pinned done);
  using Renewed = std::function<void(const absl::Status&, const inference::v1::RenewPrefixesResponse&)>;
  virtual void RenewPrefixes(int32_t worker, const std::vector<std::string>& prefix_ids, Renewed done);
  // Nobody is told whether the worker heard it: if it did not, their leases end.
  virtual void ReleasePrefixes(int32_t worker, const std::vector<std::string>& prefix_ids);
};

// One channel per address. INVALID_ARGUMENT for an address or for TLS files that cannot be.
absl::StatusOr<std::unique_ptr<WorkerTransport>> NewGrpcTransport(const std::vector<std::string>& addresses,
                                                                  const rpc::TlsFiles& tls);

}  // namespace conclave::orchestrator
