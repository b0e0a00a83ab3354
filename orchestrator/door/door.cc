// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/door.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>

#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

constexpr std::string_view kChatPath = "/v1/chat/completions";
constexpr std::string_view kCompletionsPath = "/v1/completions";
constexpr std::string_view kModelsPath = "/v1/models";
constexpr std::string_view kHealthPath = "/healthz";
constexpr std::string_view kApiPrefix = "/api/";
constexpr std::string_view kBearer = "Bearer ";

// As long for a wrong token as for a right one.
bool SameDigest(std::string_view a, std::string_view b) {
  unsigned differs = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    differs |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return differs == 0;
}

http::Reply WithStatus(int status, const absl::Status& error) {
  http::Reply reply = ErrorReply(error);
  reply.status = status;
  return reply;
}

bool IsPost(std::string_view path) { return path == kChatPath || path == kCompletionsPath; }

}  // namespace

Door::Door(const DoorOptions& options)
    : options_(options),
      token_sha256_(options.token.empty() ? "" : Sha256Hex(options.token)),
      openai_(options.openai),
      page_(options.openai.executor, options.openai.graphs, options.openai.clock, &draining_) {}

absl::Status Door::Check(const DoorOptions& options) {
  ASSIGN_OR_RETURN(const rpc::HostPort where, rpc::ParseAddress(options.listen));
  if (where.host.empty()) return InvalidArgument("--http {}: must be HOST:PORT", options.listen);
  if (!options.tls.empty()) {
    return Annotate(http::CheckTls(options.tls), "--http-tls-cert, --http-tls-key, --http-tls-client-ca");
  }
  if (rpc::IsLoopback(where) || options.plaintext == rpc::PlaintextPolicy::kAnywhere) return absl::OkStatus();
  return FailedPrecondition(
      "--http {} would send prompts and tokens in plaintext over a network; name --http-tls-cert and "
      "--http-tls-key, listen on loopback behind a proxy that speaks TLS, or say --insecure-listen",
      options.listen);
}

absl::StatusOr<std::unique_ptr<Door>> Door::Start(const DoorOptions& options) {
  RETURN_IF_ERROR(Check(options));
  ASSIGN_OR_RETURN(const rpc::HostPort where, rpc::ParseAddress(options.listen));
  std::unique_ptr<Door> door(new Door(options));
  door->loopback_ = rpc::IsLoopback(where);
  http::ServerOptions server;
  server.host = where.host;
  server.port = where.port;
  server.post_paths = {std::string(kChatPath), std::string(kCompletionsPath)};
  server.body_bytes_max = options.body_bytes_max;
  server.connections_max = options.connections_max;
  server.tls = options.tls;
  server.clock = options.openai.clock;
  ASSIGN_OR_RETURN(door->server_, http::Server::Start(server, door.get()));
  const bool v6 = where.host.find(':') != std::string::npos;
  door->address_ = fmt::format("{}{}{}:{}", v6 ? "[" : "", where.host, v6 ? "]" : "", door->server_->port());
  return door;
}

Door::~Door() { Drain(0); }

void Door::Drain(int64_t grace_ns) {
  draining_ = true;
  if (server_ != nullptr) server_->Stop(grace_ns);
}

std::optional<http::Reply> Door::Refuse(const http::Request& head) {
  // A page of elsewhere that resolves its own name to this machine is not let in.
  if (loopback_ && !head.host.empty()) {
    const std::string host = head.host.substr(
        0, head.host.rfind(':') == head.host.npos || head.host.ends_with(']') ? head.host.npos : head.host.rfind(':'));
    if (!rpc::IsLoopback({host == "[::1]" ? "::1" : host, 0})) {
      return WithStatus(421, InvalidArgument("host \"{}\" is not this machine's loopback", head.host));
    }
  }
  if (head.path == kHealthPath || Page::File(head.path).has_value()) return std::nullopt;
  if (!token_sha256_.empty()) {
    const bool bearer =
        absl::StartsWithIgnoreCase(head.authorization, absl::string_view(kBearer.data(), kBearer.size()));
    const std::string token = bearer ? head.authorization.substr(kBearer.size()) : "";
    if (!SameDigest(Sha256Hex(token), token_sha256_)) {
      return ErrorReply(rpc::WithReason(
          MakeStatus(absl::StatusCode::kUnauthenticated, "bring the door's token: Authorization: Bearer TOKEN"),
          "INVALID_API_KEY"));
    }
  }
  if (!IsPost(head.path) || head.method != "POST") return std::nullopt;
  if (draining_) {
    return ErrorReply(rpc::WithReason(Unavailable("the orchestrator is stopping; try again later"), "DRAINING"));
  }
  if (!absl::StartsWithIgnoreCase(head.content_type, "application/json")) {
    return WithStatus(415, InvalidArgument("Content-Type \"{}\" must be application/json", head.content_type));
  }
  if (const absl::Status room = openai_.RoomForOneMore(); !room.ok()) return ErrorReply(room);
  return std::nullopt;
}

http::Reply Door::Answer(const http::Request& request) {
  const std::string_view path = request.path;
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (IsPost(path) && request.method == "POST") {
    return openai_.Complete(request, path == kChatPath ? OpenAiApi::kChat : OpenAiApi::kCompletions);
  }
  if (reads && path == kHealthPath) {
    http::Reply reply;
    reply.status = draining_ ? 503 : 200;
    reply.text = draining_ ? "{\"status\":\"draining\"}" : "{\"status\":\"ok\"}";
    return reply;
  }
  if (reads && path.starts_with(kApiPrefix)) return page_.Api(request);
  if (std::optional<http::Reply> file = Page::File(path); reads && file.has_value()) return *std::move(file);
  if (reads && path == kModelsPath) return openai_.Models();
  if (reads && path.starts_with(kModelsPath) && path.size() > kModelsPath.size() + 1 &&
      path[kModelsPath.size()] == '/') {
    return openai_.Model(path.substr(kModelsPath.size() + 1));
  }
  if (IsPost(path) || path == kHealthPath || path == kModelsPath) {
    return WithStatus(405, InvalidArgument("{} takes {}", path, IsPost(path) ? "POST" : "GET"));
  }
  return ErrorReply(NotFound("there is nothing at {} {}", request.method, path));
}

http::Reply Door::Error(int status) {
  switch (status) {
    case 408:
      return WithStatus(status, DeadlineExceeded("the request did not come in time"));
    case 413:
      return WithStatus(status, InvalidArgument("the body has more than {} bytes", options_.body_bytes_max));
    case 414:
    case 431:
      return WithStatus(status, InvalidArgument("the request's head is too long: at most {} bytes, its first line {}",
                                                http::kHeadBytesMax, http::kTargetBytesMax));
    case 416:
      return WithStatus(status, InvalidArgument("ranges are not served"));
    default:
      return WithStatus(status,
                        status >= 500 ? Internal("the request failed") : InvalidArgument("the request does not parse"));
  }
}

}  // namespace conclave::orchestrator
