// SPDX-License-Identifier: Apache-2.0
// A gRPC service of ours, listening: address, credentials, health and reflection in one way for every program.
#pragma once

#include <grpcpp/server.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "protos/rpc_endpoint.h"

namespace conclave::rpc {

struct ListenOptions {
  std::string listen = "127.0.0.1:0";
  TlsFiles tls = {};
  PlaintextPolicy plaintext = PlaintextPolicy::kLoopbackOnly;
  bool reflection = false;
};

struct ListeningServer {
  std::unique_ptr<grpc::Server> grpc;
  std::string address;  // "127.0.0.1:50051", the port filled in
};

// Serving when it returns, and healthy under `service_name` and under the empty name. `service` outlives the server.
// FAILED_PRECONDITION or INVALID_ARGUMENT for the options, UNAVAILABLE for an address that cannot be taken.
absl::StatusOr<ListeningServer> Listen(const ListenOptions& options, int32_t receive_bytes_max,
                                       std::string_view service_name, grpc::Service* service);

// Says of a service that it takes calls, or takes none any more. The empty name stays healthy: the process lives.
void SetServing(grpc::Server* server, std::string_view service_name, bool serving);

// Cancels what still runs and waits for the end of its reactions.
void ShutDownNow(grpc::Server* server);

}  // namespace conclave::rpc
