// SPDX-License-Identifier: Apache-2.0
// A serving worker: gRPC server, health, metrics and housekeeping around one ModelHost.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/periodic.h"
#include "protos/rpc_server.h"
#include "worker/metrics.h"
#include "worker/model_host.h"
#include "worker/service.h"

namespace conclave::worker {

inline constexpr std::string_view kServiceName = "conclave.inference.v1.InferenceService";

struct ServerOptions {
  rpc::ListenOptions endpoint = {};
  int32_t metrics_port = -1;  // -1: none; 0: any free one; on the host of `endpoint`
  std::string instance_id;    // UUID of this process
  std::string version;
  const Clock* clock = &Clock::System();
};

// Thread-safe. Health: the empty name says that the process lives, kServiceName that it takes requests.
class Server {
 public:
  // Serving when it returns. FAILED_PRECONDITION or INVALID_ARGUMENT for the options, UNAVAILABLE for a taken address.
  // `host` must outlive the server.
  static absl::StatusOr<std::unique_ptr<Server>> Start(ModelHost* host, const ServerOptions& options);
  // Cancels what still runs.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // "127.0.0.1:50051", the port filled in.
  const std::string& address() const { return listening_.address; }
  int32_t metrics_port() const { return metrics_ == nullptr ? -1 : metrics_->port(); }

  // Health NOT_SERVING at once, new requests UNAVAILABLE; what still runs after the grace ends with UNAVAILABLE.
  void BeginDrain(int64_t grace_ns) { service_->BeginDrain(grace_ns); }
  // Waits until nothing runs. False after `timeout_ns`.
  bool WaitIdle(int64_t timeout_ns) const { return service_->WaitIdle(timeout_ns); }
  // What the housekeeping thread does a few times a second.
  void Tick() { service_->Tick(); }

 private:
  Server() = default;

  std::shared_ptr<Metrics> metric_values_;
  std::unique_ptr<Service> service_;
  rpc::ListeningServer listening_;
  std::unique_ptr<MetricsServer> metrics_;
  std::unique_ptr<Periodic> housekeeper_;
};

}  // namespace conclave::worker
