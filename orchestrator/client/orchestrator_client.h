// SPDX-License-Identifier: Apache-2.0
// A running orchestrator seen from outside: runs begun and watched over gRPC, through lost connections and restarts.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/run/run_observer.h"
#include "protos/rpc_endpoint.h"

namespace conclave::orchestrator {

struct ClientOptions {
  rpc::TlsFiles tls = {};
  int64_t connect_timeout_ns = 5'000'000'000;
  // A stream that hears nothing of the orchestrator for so long, trying again meanwhile, ends UNAVAILABLE.
  int64_t lost_ns = 30'000'000'000;
  const Clock* clock = &Clock::System();
};

// Thread-safe. Observers hear every event once and in order, whatever happens to the connection: a broken stream is
// watched again after the last number it brought.
class OrchestratorClient {
 public:
  // INVALID_ARGUMENT for the address or a TLS file; UNAVAILABLE, naming the address, when nobody answers there in time.
  static absl::StatusOr<std::unique_ptr<OrchestratorClient>> Connect(std::string_view address,
                                                                     const ClientOptions& options);
  // Ends what is being watched with CANCELLED and waits until every observer has been told. The runs go on.
  ~OrchestratorClient();
  OrchestratorClient(const OrchestratorClient&) = delete;
  OrchestratorClient& operator=(const OrchestratorClient&) = delete;

  const std::string& address() const;
  // As they were when the connection was made.
  const std::vector<deliberation::v1::ListMembersResponse::Member>& members() const;

  // Begins a run, or finds the one begun under its request_id. That must be set: it makes asking again harmless.
  void Run(deliberation::v1::RunRequest request, std::shared_ptr<RunObserver> observer);
  // Events after a number.
  void Watch(std::string run_id, int64_t after_sequence_number, std::shared_ptr<RunObserver> observer);
  // `done` hears once the cancellation is durable, or why it is not. The run's last event follows on its stream.
  void Cancel(std::string run_id, std::function<void(absl::Status)> done);
  // Ends every stream with CANCELLED; the runs go on. Later ones end at once.
  void StopWatching();

 private:
  class Impl;
  explicit OrchestratorClient(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace conclave::orchestrator
