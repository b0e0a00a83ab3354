// SPDX-License-Identifier: Apache-2.0
#include "protos/rpc_endpoint.h"

#include <grpc/grpc.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <arpa/inet.h>

#include <charconv>

#include "common/file.h"
#include "common/status.h"

namespace conclave::rpc {
namespace {

constexpr unsigned int kReloadSeconds = 10;
constexpr int64_t kPemBytesMax = 1 << 20;
constexpr int kSecondMs = 1000;

absl::Status CheckReadable(std::string_view what, const std::string& path) {
  const absl::StatusOr<std::string> pem = ReadFile(path, kPemBytesMax);
  if (!pem.ok()) return Annotate(pem.status(), what);
  if (pem->find("-----BEGIN ") == std::string::npos) return InvalidArgument("{}: {} is not a PEM file", what, path);
  return absl::OkStatus();
}

absl::Status CheckFiles(const TlsFiles& tls) {
  if (tls.certificate.empty() != tls.key.empty()) {
    return InvalidArgument("a TLS certificate needs its key and a key its certificate: give both or neither");
  }
  if (!tls.certificate.empty()) {
    RETURN_IF_ERROR(CheckReadable("TLS certificate", tls.certificate));
    RETURN_IF_ERROR(CheckReadable("TLS key", tls.key));
  }
  return tls.ca.empty() ? absl::OkStatus() : CheckReadable("TLS certificate authority", tls.ca);
}

std::shared_ptr<grpc::experimental::FileWatcherCertificateProvider> Watch(const TlsFiles& tls) {
  return std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(tls.key, tls.certificate, tls.ca,
                                                                              kReloadSeconds);
}

}  // namespace

absl::StatusOr<HostPort> ParseAddress(std::string_view address) {
  if (address.starts_with("unix:") && address.size() > 5) return HostPort{};
  const auto error = [&](std::string_view what) {
    return InvalidArgument("address \"{}\": {}; give HOST:PORT, [IPV6]:PORT or unix:PATH (port 0 takes a free one)",
                           address, what);
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return error("has no port");
  std::string_view host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":[]") != std::string_view::npos) {
    return error("an IPv6 host needs brackets");
  }
  if (host.empty()) return error("has no host");
  const std::string_view digits = address.substr(colon + 1);
  HostPort out{std::string(host), -1};
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), out.port);
  if (code != std::errc() || end != digits.data() + digits.size() || out.port < 0 || out.port > 65535) {
    return error("the port is not a number from 0 to 65535");
  }
  return out;
}

bool IsLoopback(const HostPort& address) {
  if (address.host.empty() || address.host == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, address.host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentials(std::string_view address,
                                                                           const TlsFiles& tls,
                                                                           PlaintextPolicy policy) {
  ASSIGN_OR_RETURN(const HostPort parsed, ParseAddress(address));
  RETURN_IF_ERROR(CheckFiles(tls));
  if (!tls.certificate.empty()) {
    grpc::experimental::TlsServerCredentialsOptions options(Watch(tls));
    options.watch_identity_key_cert_pairs();
    if (!tls.ca.empty()) options.watch_root_certs();
    options.set_cert_request_type(tls.ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                 : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    return grpc::experimental::TlsServerCredentials(options);
  }
  if (!tls.ca.empty()) return InvalidArgument("--tls-client-ca needs --tls-cert and --tls-key");
  if (policy == PlaintextPolicy::kLoopbackOnly && !IsLoopback(parsed)) {
    return FailedPrecondition(
        "will not listen on {} without TLS: anyone who reaches it could read prompts; give --tls-cert and --tls-key "
        "(and --tls-client-ca), listen on 127.0.0.1, or say --insecure-listen",
        address);
  }
  return grpc::InsecureServerCredentials();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelCredentials(const TlsFiles& tls) {
  if (tls.empty()) return grpc::InsecureChannelCredentials();
  RETURN_IF_ERROR(CheckFiles(tls));
  if (tls.ca.empty()) return InvalidArgument("a client with a TLS certificate needs the servers' authority too");
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(tls));
  options.watch_root_certs();
  if (!tls.certificate.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

void ConfigureServer(grpc::ServerBuilder* builder, int32_t receive_bytes_max) {
  // With the default two processes bind one port without an error and split its traffic.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Probing grows a stream's window until megabytes lie in it; then a slow reader is noticed far too late.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // Over 8 KiB, the default, a call's metadata kills every other stream of its connection.
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytesMax);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30 * kSecondMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10 * kSecondMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Allows the clients' 10 s pings, which the default (5 min, 2 strikes) answers by closing the connection.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5 * kSecondMs);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder->SetMaxReceiveMessageSize(receive_bytes_max);
}

grpc::ChannelArguments ChannelArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kClientReceiveBytesMax);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytesMax);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // A stopped or vanished peer is noticed in 15 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10 * kSecondMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5 * kSecondMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A restarted peer is found again in at most 5 s (defaults: 20 s to connect, back-off to 120 s).
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 3 * kSecondMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5 * kSecondMs);
  return arguments;
}

}  // namespace conclave::rpc
