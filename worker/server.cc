// SPDX-License-Identifier: Apache-2.0
#include "worker/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <utility>

#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr int64_t kHousekeepingNs = 250'000'000;

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ModelHost* host, const ServerOptions& options) {
  std::unique_ptr<Server> server(new Server);
  Server* const raw = server.get();
  server->metric_values_ = std::make_shared<Metrics>(host, options.version);
  Service::Options service;
  service.clock = options.clock;
  service.instance_id = options.instance_id;
  service.version = options.version;
  service.on_drain = [raw] { raw->grpc_->GetHealthCheckService()->SetServingStatus(std::string(kServiceName), false); };
  server->service_ = std::make_unique<Service>(host, server->metric_values_, std::move(service));
  RETURN_IF_ERROR(server->Listen(options));
  if (options.metrics_port >= 0) {
    ASSIGN_OR_RETURN(const rpc::HostPort listen, rpc::ParseAddress(options.listen));
    const std::string metrics_host = listen.host.empty() || listen.host == "localhost" ? "127.0.0.1" : listen.host;
    ASSIGN_OR_RETURN(server->metrics_,
                     MetricsServer::Start(metrics_host, options.metrics_port, server->metric_values_));
  }
  server->housekeeper_ = std::thread([raw] { raw->Housekeep(); });
  return server;
}

absl::Status Server::Listen(const ServerOptions& options) {
  ASSIGN_OR_RETURN(const rpc::HostPort listen, rpc::ParseAddress(options.listen));
  ASSIGN_OR_RETURN(auto credentials, rpc::ServerCredentials(options.listen, options.tls, options.plaintext));
  grpc::EnableDefaultHealthCheckService(true);
  if (options.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  rpc::ConfigureServer(&builder, rpc::kWorkerReceiveBytesMax);
  int port = 0;
  builder.AddListeningPort(options.listen, std::move(credentials), &port);
  builder.RegisterService(service_.get());
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

Server::~Server() {
  if (housekeeper_.joinable()) {
    {
      MutexLock lock(&mutex_);
      stop_ = true;
      stop_changed_.SignalAll();
    }
    housekeeper_.join();
  }
  metrics_.reset();
  if (grpc_ != nullptr) {
    service_->BeginDrain(0);
    grpc_->Shutdown(std::chrono::system_clock::time_point());  // a deadline in the past: cancel what still runs
    grpc_->Wait();
    service_->WaitIdle(INT64_MAX / 2);  // the engine lets go of its sinks within a step
  }
}

void Server::Housekeep() {
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (!stop_) stop_changed_.WaitWithTimeout(&mutex_, kHousekeepingNs);
      if (stop_) return;
    }
    Tick();
  }
}

}  // namespace conclave::worker
