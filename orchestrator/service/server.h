// SPDX-License-Identifier: Apache-2.0
// A serving orchestrator: gRPC server, health, reflection and heartbeats around one Service.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/periodic.h"
#include "orchestrator/service/service.h"
#include "protos/rpc_server.h"

namespace conclave::orchestrator {

inline constexpr std::string_view kServiceName = "conclave.deliberation.v1.DeliberationService";

// Thread-safe. Health: the empty name says that the process lives, kServiceName that it takes runs.
class Server {
 public:
  // Serving when it returns. FAILED_PRECONDITION or INVALID_ARGUMENT for the options, UNAVAILABLE for a taken address.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const rpc::ListenOptions& options, Service::Options service);
  // Ends what still runs. Runs are the executor's and go on.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // "127.0.0.1:50061", the port filled in.
  const std::string& address() const { return listening_.address; }
  // Health NOT_SERVING at once, new runs UNAVAILABLE. Watchers stay until the executor stops.
  void BeginDrain();

 private:
  explicit Server(Service::Options service) : service_(std::move(service)) {}

  Service service_;
  rpc::ListeningServer listening_;
  std::unique_ptr<Periodic> housekeeper_;
};

}  // namespace conclave::orchestrator
