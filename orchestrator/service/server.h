// SPDX-License-Identifier: Apache-2.0
// A serving orchestrator: gRPC server, health, reflection and heartbeats around one Service.
#pragma once

#include <grpcpp/server.h>

#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "orchestrator/service/service.h"
#include "protos/rpc_endpoint.h"

namespace conclave::orchestrator {

inline constexpr std::string_view kServiceName = "conclave.deliberation.v1.DeliberationService";

struct ServerOptions {
  std::string listen = "127.0.0.1:0";
  rpc::TlsFiles tls = {};
  rpc::PlaintextPolicy plaintext = rpc::PlaintextPolicy::kLoopbackOnly;
  bool reflection = false;
};

// Thread-safe. Health: the empty name says that the process lives, kServiceName that it takes runs.
class Server {
 public:
  // Serving when it returns. FAILED_PRECONDITION or INVALID_ARGUMENT for the options, UNAVAILABLE for a taken address.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options, Service::Options service);
  // Ends what still runs. Runs are the executor's and go on.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // "127.0.0.1:50061", the port filled in.
  const std::string& address() const { return address_; }
  // Health NOT_SERVING at once, new runs UNAVAILABLE. Watchers stay until the executor stops.
  void BeginDrain();

 private:
  explicit Server(Service::Options service) : service_(std::move(service)) {}
  absl::Status Listen(const ServerOptions& options);
  void Housekeep();

  Service service_;
  std::unique_ptr<grpc::Server> grpc_;
  std::string address_;
  Mutex mutex_;
  CondVar stop_changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread housekeeper_;
};

}  // namespace conclave::orchestrator
