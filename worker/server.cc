// SPDX-License-Identifier: Apache-2.0
#include "worker/server.h"

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
  service.on_drain = [raw] { rpc::SetServing(raw->listening_.grpc.get(), kServiceName, false); };
  server->service_ = std::make_unique<Service>(host, server->metric_values_, std::move(service));
  ASSIGN_OR_RETURN(server->listening_,
                   rpc::Listen(options.endpoint, rpc::kWorkerReceiveBytesMax, kServiceName, server->service_.get()));
  if (options.metrics_port >= 0) {
    ASSIGN_OR_RETURN(const rpc::HostPort listen, rpc::ParseAddress(options.endpoint.listen));
    const std::string metrics_host = listen.host.empty() || listen.host == "localhost" ? "127.0.0.1" : listen.host;
    ASSIGN_OR_RETURN(server->metrics_,
                     MetricsServer::Start(metrics_host, options.metrics_port, server->metric_values_));
  }
  server->housekeeper_ = std::make_unique<Periodic>(kHousekeepingNs, [raw] { raw->Tick(); });
  return server;
}

Server::~Server() {
  housekeeper_.reset();
  metrics_.reset();
  if (listening_.grpc != nullptr) {
    service_->BeginDrain(0);
    rpc::ShutDownNow(listening_.grpc.get());
    service_->WaitIdle(INT64_MAX / 2);  // the engine lets go of its sinks within a step
  }
}

}  // namespace conclave::worker
