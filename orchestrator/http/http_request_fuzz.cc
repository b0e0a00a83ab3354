// SPDX-License-Identifier: Apache-2.0
// Bytes that a caller sends to the HTTP server, over a real connection. Whatever they are: no crash, no more body than
// is allowed, and an answer that begins as one does, or none.
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/check.h"
#include "orchestrator/http/http_server.h"
#include "orchestrator/http/http_testing.h"

namespace conclave::http {
namespace {

constexpr int64_t kBodyBytesMax = 1 << 10;

// Answers with what it was told, in pieces where the path says so.
class Echo final : public Handler {
 public:
  std::optional<Reply> Refuse(const Request& head) override {
    if (head.path != "/refused") return std::nullopt;
    Reply reply;
    reply.status = 403;
    return reply;
  }
  Reply Answer(const Request& request) override {
    CONCLAVE_CHECK(std::ssize(request.body) <= kBodyBytesMax);
    Reply reply;
    if (request.path == "/pieces") {
      reply.body = std::make_unique<Pieces>(request.body);
    } else {
      reply.text = request.method + request.path + request.body;
    }
    return reply;
  }
  Reply Error(int status) override {
    Reply reply;
    reply.status = status;
    reply.text = "error";
    return reply;
  }

 private:
  class Pieces final : public Body {
   public:
    explicit Pieces(std::string text) : text_(std::move(text)) {}
    Next Take(int64_t, std::string* piece) override {
      if (text_.empty()) return Next::kEnd;
      *piece = text_.substr(0, 3);
      text_.erase(0, 3);
      return Next::kPiece;
    }

   private:
    std::string text_;
  };
};

Server& EchoServer() {
  static Echo echo;
  static const std::unique_ptr<Server> server = [] {
    ServerOptions options;
    options.post_paths = {"/", "/pieces"};
    options.body_bytes_max = kBodyBytesMax;
    auto started = Server::Start(options, &echo);
    CONCLAVE_CHECK(started.ok());
    return *std::move(started);
  }();
  return *server;
}

}  // namespace
}  // namespace conclave::http

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace conclave::http;
  RawConnection connection(EchoServer().port());
  connection.Send({reinterpret_cast<const char*>(data), size});
  connection.Finish();
  const std::string answer = connection.Read();
  CONCLAVE_CHECK(answer.empty() || answer.starts_with("HTTP/1.1 "));
  return 0;
}
