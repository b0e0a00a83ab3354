// SPDX-License-Identifier: Apache-2.0
// The orchestrator's door for callers over HTTP: who may come in, and which way.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "orchestrator/door/openai.h"
#include "orchestrator/door/page.h"
#include "orchestrator/http/http_server.h"
#include "protos/rpc_endpoint.h"

namespace conclave::orchestrator {

struct DoorOptions {
  std::string listen = "127.0.0.1:0";  // HOST:PORT; in plaintext off loopback only where that is allowed
  rpc::PlaintextPolicy plaintext = rpc::PlaintextPolicy::kLoopbackOnly;
  http::ServerTls tls;
  std::string token;  // callers must bring it as bearer; empty: everybody may
  int64_t body_bytes_max = 8 << 20;
  int32_t connections_max = 512;
  OpenAi::Options openai;
};

// Serves from Start to Drain. Thread-safe.
class Door final : public http::Handler {
 public:
  // What of the options can be told without serving: the address, and files of TLS. Errors name flags.
  static absl::Status Check(const DoorOptions& options);
  // FAILED_PRECONDITION or INVALID_ARGUMENT for the options, UNAVAILABLE for a taken address.
  static absl::StatusOr<std::unique_ptr<Door>> Start(const DoorOptions& options);
  ~Door() override;

  // "127.0.0.1:8080", the port filled in.
  const std::string& address() const { return address_; }
  // New requests are refused with 503; what is being answered ends, or is broken off after this time. Blocks until
  // then.
  void Drain(int64_t grace_ns);

  // ---- http::Handler
  std::optional<http::Reply> Refuse(const http::Request& head) override;
  http::Reply Answer(const http::Request& request) override;
  http::Reply Error(int status) override;

 private:
  explicit Door(const DoorOptions& options);

  const DoorOptions options_;
  const std::string token_sha256_;  // "" without a token
  bool loopback_ = false;
  OpenAi openai_;
  const Page page_;
  std::atomic<bool> draining_ = false;
  std::string address_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace conclave::orchestrator
