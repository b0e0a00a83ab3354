// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/http_client.h"

#include <atomic>
#include <charconv>

#include "common/status.h"
#include "orchestrator/http/edge_stream.h"

namespace conclave::http {
namespace {

// Of a reply. httplib matches its first line with a recursive regular expression.
constexpr int64_t kReplyHeadBytesMax = 64 << 10;
constexpr int64_t kStatusLineBytesMax = 1 << 10;

std::chrono::microseconds ToMicroseconds(int64_t ns) { return std::chrono::microseconds(ns / 1'000); }

}  // namespace

absl::StatusOr<Url> ParseUrl(std::string_view text) {
  const auto wrong = [text](std::string_view why) {
    return InvalidArgument("url \"{}\" {}; http://HOST[:PORT][/PATH] or https is needed", text, why);
  };
  Url url;
  std::string_view rest = text;
  url.tls = rest.starts_with("https://");
  if (!url.tls && !rest.starts_with("http://")) return wrong("has no known scheme");
  rest.remove_prefix(url.tls ? 8 : 7);
  for (const char c : rest) {
    if (c <= ' ' || c == 0x7f || c == '?' || c == '#' || c == '@' || c == '\\') return wrong("holds what it may not");
  }
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view host = rest.substr(0, slash);
  std::string_view path = rest.substr(slash);
  while (path.ends_with('/')) path.remove_suffix(1);
  url.path = path;
  url.port = url.tls ? 443 : 80;
  const size_t bracket = host.rfind(']');
  if (const size_t colon = host.rfind(':'); colon != host.npos && (bracket == host.npos || colon > bracket)) {
    const std::string_view port = host.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (error != std::errc() || end != port.data() + port.size() || url.port < 1 || url.port > 65535)
      return wrong("has no port from 1 to 65535");
    host = host.substr(0, colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty()) return wrong("names no host");
  url.host = host;
  return url;
}

class Post::Connection {
 public:
  virtual ~Connection() = default;
  virtual httplib::Error Send(httplib::Request* request, httplib::Response* response) = 0;
  virtual void Break() = 0;

  std::atomic<bool> stopped = false;
  std::atomic<bool> connected = false;
  std::atomic<bool> silent = false;
};

// httplib's client, over streams that are bounded.
template <typename Base>
class Post::Bounded final : public Base, public Post::Connection {
 public:
  Bounded(const Url& server, const PostLimits& limits, const Clock& clock)
      : Base(server.host, server.port), limits_(limits), clock_(clock) {
    this->set_connection_timeout(ToMicroseconds(limits.connect_ns));
    this->set_read_timeout(ToMicroseconds(limits.silence_ns));  // of the socket, beneath ours
    this->set_write_timeout(ToMicroseconds(limits.silence_ns));
    this->set_tcp_nodelay(true);
    this->set_decompress(false);
    this->set_follow_location(false);
    this->set_keep_alive(false);
  }

  httplib::Error Send(httplib::Request* request, httplib::Response* response) override {
    httplib::Error error = httplib::Error::Success;
    this->send(*request, *response, error);
    return error;
  }
  void Break() override { this->stop(); }

 private:
  bool process_socket(const typename Base::Socket& socket, std::function<bool(httplib::Stream&)> use) override {
    connected = true;
    if (stopped) return false;
    EdgeStream stream(socket.sock, socket.ssl,
                      {.head_bytes_max = kReplyHeadBytesMax,
                       .first_line_bytes_max = kStatusLineBytesMax,
                       .head_ns = limits_.silence_ns,
                       .body_bytes_max = limits_.body_bytes_max,
                       .silence_ns = limits_.silence_ns},
                      clock_);
    stream.ReadHeadFirst();
    const bool used = use(stream);
    silent = stream.silent();
    return used;
  }

  const PostLimits limits_;
  const Clock& clock_;
};

Post::Post(const Url& server, const PostLimits& limits, const std::string& authorities, const Clock& clock)
    : where_(fmt::format("{}:{}", server.host, server.port)) {
  if (!server.tls) {
    connection_ = std::make_unique<Bounded<httplib::ClientImpl>>(server, limits, clock);
    return;
  }
  auto secure = std::make_unique<Bounded<httplib::SSLClient>>(server, limits, clock);
  secure->enable_server_certificate_verification(true);
  if (!authorities.empty()) secure->set_ca_cert_path(authorities);
  connection_ = std::move(secure);
}

Post::~Post() = default;

void Post::Stop() {
  connection_->stopped = true;
  connection_->Break();
}

absl::Status Post::Run(const std::string& path, std::vector<std::pair<std::string, std::string>> headers,
                       std::string body, std::function<bool(const ReplyHead&)> on_head,
                       std::function<bool(std::string_view)> on_piece) {
  httplib::Request request;
  request.method = "POST";
  request.path = path;
  for (const auto& [name, value] : headers) request.set_header(name, value);
  request.body = std::move(body);
  bool given_up = false;
  request.response_handler = [&](const httplib::Response& response) {
    given_up = !on_head(
        {response.status, response.get_header_value("Content-Type"), response.get_header_value("Retry-After")});
    return !given_up;
  };
  request.content_receiver = [&](const char* data, size_t size, uint64_t, uint64_t) {
    given_up = given_up || !on_piece({data, size});
    return !given_up;
  };
  httplib::Response response;
  const httplib::Error error = connection_->stopped ? httplib::Error::Canceled : connection_->Send(&request, &response);
  if (connection_->stopped || given_up) return Cancelled("{}: the call was given up", where_);
  if (error == httplib::Error::Success) return absl::OkStatus();
  if (connection_->silent) return DeadlineExceeded("{}: nothing came for too long", where_);
  if (!connection_->connected) {
    return Unavailable("NOT_CONNECTED: {}: no connection ({})", where_, httplib::to_string(error));
  }
  return Unavailable("{}: the connection broke ({})", where_, httplib::to_string(error));
}

}  // namespace conclave::http
