// SPDX-License-Identifier: Apache-2.0
// Both ends of a connection, set up once for every program: addresses, TLS, and the gRPC 1.51 settings that its
// defaults get wrong for us (what and why: rpc_endpoint.cc).
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/channel_arguments.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::rpc {

// Received messages at most; larger ones are refused by gRPC with RESOURCE_EXHAUSTED, the connection survives.
inline constexpr int32_t kWorkerReceiveBytesMax = 8 << 20;
inline constexpr int32_t kOrchestratorReceiveBytesMax = 4 << 20;
inline constexpr int32_t kClientReceiveBytesMax = 8 << 20;
inline constexpr int32_t kMetadataBytesMax = 64 << 10;

// PEM files. They are read again every few seconds, so certificates can be renewed without a restart.
struct TlsFiles {
  std::string certificate;  // --tls-cert
  std::string key;          // --tls-key
  std::string ca;  // servers: --tls-client-ca, clients must then present a certificate; clients: the servers' CA

  bool empty() const { return certificate.empty() && key.empty() && ca.empty(); }
};

struct HostPort {
  std::string host;  // without brackets; empty for a unix socket
  int32_t port = 0;  // 0: any free one
};

// "127.0.0.1:50051", "[::1]:0", "localhost:50051", "unix:/run/conclave.sock".
absl::StatusOr<HostPort> ParseAddress(std::string_view address);
// 127.0.0.0/8, ::1, "localhost", or a unix socket: reachable from this machine only.
bool IsLoopback(const HostPort& address);

enum class PlaintextPolicy : uint8_t { kLoopbackOnly, kAnywhere };  // kAnywhere is --insecure-listen

// TLS if files are named, plaintext on loopback, otherwise FAILED_PRECONDITION with what to do. Files are checked to be
// readable here, because gRPC itself would only log.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentials(std::string_view address,
                                                                           const TlsFiles& tls, PlaintextPolicy policy);
// Plaintext if no file is named.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelCredentials(const TlsFiles& tls);

// Sizes, keepalive, flow control, exclusive port.
void ConfigureServer(grpc::ServerBuilder* builder, int32_t receive_bytes_max);
// The client's side of the same. Retries are off: a repeated Generate is a decision of the caller's ledger.
grpc::ChannelArguments ChannelArguments();

}  // namespace conclave::rpc
