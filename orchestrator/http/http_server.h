// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.1 server with bounds: connections, heads, bodies, silences; refusal before a body is read; answers that
// come in pieces; a caller that goes is noticed. cpp-httplib parses; what its 0.11 of Debian 12 leaves unbounded is
// bounded here (edge_stream.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"

namespace conclave::http {

// ---- Limits, tested at the limit and one above.
inline constexpr int64_t kHeadBytesMax = 16 << 10;   // of a request; more: the connection is closed
inline constexpr int64_t kTargetBytesMax = 4 << 10;  // the request line
inline constexpr int64_t kHeadNs = 10'000'000'000;
inline constexpr int64_t kSilenceNs = 30'000'000'000;  // while a body comes, and while a reader does not read
inline constexpr int64_t kKeepAliveNs = 30'000'000'000;

// Who asked, as long as the request is answered. Thread-safe.
class Caller {
 public:
  virtual ~Caller() = default;
  virtual bool gone() const = 0;
};

struct Request {
  std::string method;
  std::string path;                          // without the query
  std::map<std::string, std::string> query;  // the first of each name
  std::string authorization;                 // header
  std::string content_type;
  std::string host;
  std::string body;
  const Caller* caller = nullptr;
};

// An answer that is made while it is sent. Destroyed when all is sent or the caller has gone.
class Body {
 public:
  enum class Next : uint8_t { kPiece, kNothingYet, kEnd, kBroken };
  virtual ~Body() = default;
  // Waits at most so long. kBroken closes the connection without the mark of a whole answer.
  virtual Next Take(int64_t wait_ns, std::string* piece) = 0;
};

struct Reply {
  int status = 200;
  std::string content_type = "application/json";
  std::string text = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::unique_ptr<Body> body = {};  // instead of text
};

// Called by many threads at once, one per connection; may block.
class Handler {
 public:
  virtual ~Handler() = default;
  // Before a body is read: an answer refuses it.
  virtual std::optional<Reply> Refuse(const Request& head) = 0;
  virtual Reply Answer(const Request& request) = 0;
  // For what goes wrong before a handler is asked: a head or body that is too long or does not parse.
  virtual Reply Error(int status) = 0;
};

// PEM files; without any the server speaks plaintext. They are read again every few seconds when they have changed.
struct ServerTls {
  std::string certificate;  // chain
  std::string key;
  std::string client_ca;  // callers must then present a certificate of it

  bool empty() const { return certificate.empty() && key.empty() && client_ca.empty(); }
};

// INVALID_ARGUMENT: a file that cannot be read or is none, a key that does not fit its certificate.
absl::Status CheckTls(const ServerTls& files);

struct ServerOptions {
  std::string host = "127.0.0.1";
  int32_t port = 0;                     // 0: any free one
  std::vector<std::string> post_paths;  // that take a body
  int64_t body_bytes_max = 8 << 20;
  int32_t connections_max = 512;  // a thread each; more are answered 503 and closed
  ServerTls tls = {};
  const Clock* clock = &Clock::System();
};

class Server {
 public:
  // Serving when it returns. UNAVAILABLE for a taken address, INVALID_ARGUMENT for a file of TLS. `handler` outlives
  // the server.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options, Handler* handler);
  // Stop(0).
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int32_t port() const;
  // Accepts nothing more, lets what is being answered end for so long, then breaks it off. Twice is once.
  void Stop(int64_t grace_ns);

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::http
