// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <utility>

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

constexpr int64_t kHousekeepingNs = 1'000'000'000;

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, Service::Options service) {
  std::unique_ptr<Server> server(new Server(std::move(service)));
  RETURN_IF_ERROR(server->Listen(options));
  server->housekeeper_ = std::thread([raw = server.get()] { raw->Housekeep(); });
  return server;
}

absl::Status Server::Listen(const ServerOptions& options) {
  ASSIGN_OR_RETURN(const rpc::HostPort listen, rpc::ParseAddress(options.listen));
  ASSIGN_OR_RETURN(auto credentials, rpc::ServerCredentials(options.listen, options.tls, options.plaintext));
  grpc::EnableDefaultHealthCheckService(true);
  if (options.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  rpc::ConfigureServer(&builder, rpc::kOrchestratorReceiveBytesMax);
  int port = 0;
  builder.AddListeningPort(options.listen, std::move(credentials), &port);
  builder.RegisterService(&service_);
  grpc_ = builder.BuildAndStart();
  const bool unix_socket = listen.host.empty();
  if (grpc_ == nullptr || (port == 0 && !unix_socket)) {
    return Unavailable("cannot listen on {}: is the port taken, or the host not of this machine?", options.listen);
  }
  address_ =
      unix_socket ? options.listen : options.listen.substr(0, options.listen.rfind(':')) + fmt::format(":{}", port);
  grpc_->GetHealthCheckService()->SetServingStatus(std::string(kServiceName), true);
  return absl::OkStatus();
}

void Server::BeginDrain() {
  service_.BeginDrain();
  grpc_->GetHealthCheckService()->SetServingStatus(std::string(kServiceName), false);
}

Server::~Server() {
  if (housekeeper_.joinable()) {
    {
      MutexLock lock(&mutex_);
      stop_ = true;
      stop_changed_.SignalAll();
    }
    housekeeper_.join();
  }
  if (grpc_ != nullptr) {
    BeginDrain();
    grpc_->Shutdown(std::chrono::system_clock::time_point());  // a deadline in the past: cancel what still runs
    grpc_->Wait();
  }
  service_.Join();
}

void Server::Housekeep() {
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (!stop_) stop_changed_.WaitWithTimeout(&mutex_, kHousekeepingNs);
      if (stop_) return;
    }
    service_.Tick();
  }
}

}  // namespace conclave::orchestrator
