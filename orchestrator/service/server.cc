// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/server.h"

#include <utility>

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

constexpr int64_t kHousekeepingNs = 1'000'000'000;

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const rpc::ListenOptions& options, Service::Options service) {
  std::unique_ptr<Server> server(new Server(std::move(service)));
  ASSIGN_OR_RETURN(server->listening_,
                   rpc::Listen(options, rpc::kOrchestratorReceiveBytesMax, kServiceName, &server->service_));
  server->housekeeper_ =
      std::make_unique<Periodic>(kHousekeepingNs, [service = &server->service_] { service->Tick(); });
  return server;
}

void Server::BeginDrain() {
  service_.BeginDrain();
  rpc::SetServing(listening_.grpc.get(), kServiceName, false);
}

Server::~Server() {
  housekeeper_.reset();
  if (listening_.grpc != nullptr) {
    BeginDrain();
    rpc::ShutDownNow(listening_.grpc.get());
  }
  service_.Join();
}

}  // namespace conclave::orchestrator
