// SPDX-License-Identifier: Apache-2.0
// A caller that says exactly what a test wants on the wire.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "common/check.h"

namespace conclave::http {

// One connection to a port of loopback. Waits are bounded: half a minute of silence reads as the end.
class RawConnection {
 public:
  explicit RawConnection(int32_t port) : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CONCLAVE_CHECK(connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
  }
  ~RawConnection() { Close(); }
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  // False when the other end no longer takes it.
  bool Send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t count = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  // Everything until the other end closes, or until the text ends with `until`.
  std::string Read(std::string_view until = "") {
    std::string text;
    char buffer[4096];
    while (until.empty() || !text.ends_with(until)) {
      pollfd ready = {socket_, POLLIN, 0};
      if (poll(&ready, 1, 30'000) <= 0) break;
      const ssize_t count = recv(socket_, buffer, sizeof buffer, 0);
      if (count <= 0) break;
      text.append(buffer, static_cast<size_t>(count));
    }
    return text;
  }
  // Nothing more is sent.
  void Finish() const { shutdown(socket_, SHUT_WR); }
  void Close() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }

 private:
  int socket_;
};

inline std::string PostText(std::string_view path, std::string_view body, std::string_view headers = "") {
  std::string text = "POST ";
  text += path;
  text += " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ";
  text += std::to_string(body.size());
  text += "\r\n";
  text += headers;
  text += "\r\n";
  text += body;
  return text;
}

inline std::string GetText(std::string_view path, std::string_view headers = "") {
  std::string text = "GET ";
  text += path;
  text += " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
  text += headers;
  text += "\r\n";
  return text;
}

// Of an answer's whole text.
inline int StatusOf(std::string_view answer) {
  return answer.size() > 12 && answer.starts_with("HTTP/1.1 ") ? std::stoi(std::string(answer.substr(9, 3))) : 0;
}
// Chunks joined, or what follows the head.
inline std::string BodyOf(std::string_view answer) {
  const size_t head = answer.find("\r\n\r\n");
  if (head == answer.npos) return "";
  std::string_view rest = answer.substr(head + 4);
  if (answer.substr(0, head).find("chunked") == answer.npos) return std::string(rest);
  std::string body;
  while (true) {
    const size_t line = rest.find("\r\n");
    if (line == rest.npos) return body;
    const size_t size = std::stoul(std::string(rest.substr(0, line)), nullptr, 16);
    if (size == 0 || rest.size() < line + 2 + size) return body;
    body += rest.substr(line + 2, size);
    rest.remove_prefix(std::min(rest.size(), line + 2 + size + 2));
  }
}

}  // namespace conclave::http
