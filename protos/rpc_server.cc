// SPDX-License-Identifier: Apache-2.0
#include "protos/rpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <utility>

#include "common/status.h"

namespace conclave::rpc {

absl::StatusOr<ListeningServer> Listen(const ListenOptions& options, int32_t receive_bytes_max,
                                       std::string_view service_name, grpc::Service* service) {
  ASSIGN_OR_RETURN(const HostPort listen, ParseAddress(options.listen));
  ASSIGN_OR_RETURN(auto credentials, ServerCredentials(options.listen, options.tls, options.plaintext));
  grpc::EnableDefaultHealthCheckService(true);
  if (options.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  ConfigureServer(&builder, receive_bytes_max);
  int port = 0;
  builder.AddListeningPort(options.listen, std::move(credentials), &port);
  builder.RegisterService(service);
  ListeningServer out;
  out.grpc = builder.BuildAndStart();
  const bool unix_socket = listen.host.empty();
  if (out.grpc == nullptr || (port == 0 && !unix_socket)) {
    return Unavailable("cannot listen on {}: is the port taken, or the host not of this machine?", options.listen);
  }
  out.address =
      unix_socket ? options.listen : options.listen.substr(0, options.listen.rfind(':')) + fmt::format(":{}", port);
  SetServing(out.grpc.get(), service_name, true);
  return out;
}

void SetServing(grpc::Server* server, std::string_view service_name, bool serving) {
  server->GetHealthCheckService()->SetServingStatus(std::string(service_name), serving);
}

void ShutDownNow(grpc::Server* server) {
  server->Shutdown(std::chrono::system_clock::time_point());  // a deadline in the past
  server->Wait();
}

}  // namespace conclave::rpc
