// SPDX-License-Identifier: Apache-2.0
// A server that answers every connection with exactly the bytes that a test wants, HTTP or not.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/check.h"
#include "common/mutex.h"

namespace conclave::http {

struct RawAnswer {
  std::string bytes = {};
  int64_t repeat_tail = 0;  // the last KiB again and again, up to so many bytes
  bool hang = false;        // after the bytes: until the caller closes
};

// One connection at a time, on a thread of its own.
class RawServer {
 public:
  // Given how many connections came before, and the request.
  using Script = std::function<RawAnswer(int number, const std::string& request)>;
  explicit RawServer(Script script)
      : script_(std::move(script)), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at = {};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    CONCLAVE_CHECK(bind(listener_, reinterpret_cast<const sockaddr*>(&at), size) == 0);
    CONCLAVE_CHECK(listen(listener_, 64) == 0);
    CONCLAVE_CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size) == 0);
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~RawServer() {
    ending_ = true;
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int connections() const {
    MutexLock lock(&mutex_);
    return static_cast<int>(requests_.size());
  }
  std::vector<std::string> requests() const {
    MutexLock lock(&mutex_);
    return requests_;
  }
  void AwaitConnections(int count) const {
    MutexLock lock(&mutex_);
    while (static_cast<int>(requests_.size()) < count) changed_.Wait(&mutex_);
  }

 private:
  void Serve() {
    while (!ending_) {
      const int caller = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (caller < 0) return;
      Answer(caller);
      close(caller);
    }
  }

  // The head, and as much body as it says.
  static std::string ReadRequest(int caller) {
    std::string text;
    char buffer[4096];
    while (true) {
      const size_t head = text.find("\r\n\r\n");
      const size_t length = text.find("Content-Length: ");
      if (head != text.npos && (length == text.npos || text.size() >= head + 4 + std::stoul(text.substr(length + 16))))
        return text;
      const ssize_t count = recv(caller, buffer, sizeof buffer, 0);
      if (count <= 0) return text;
      text.append(buffer, static_cast<size_t>(count));
    }
  }

  void Answer(int caller) {
    const std::string request = ReadRequest(caller);
    int number = 0;
    {
      MutexLock lock(&mutex_);
      number = static_cast<int>(requests_.size());
      requests_.push_back(request);
      changed_.SignalAll();
    }
    const RawAnswer answer = script_(number, request);
    if (!SendAll(caller, answer.bytes)) return;
    const std::string_view tail =
        std::string_view(answer.bytes).substr(answer.bytes.size() - std::min<size_t>(answer.bytes.size(), 1024));
    for (int64_t sent = 0; sent < answer.repeat_tail; sent += static_cast<int64_t>(tail.size())) {
      if (!SendAll(caller, tail)) return;
    }
    while (answer.hang && !ending_) {
      pollfd state = {caller, POLLRDHUP, 0};
      if (poll(&state, 1, 50) > 0) return;
    }
  }

  static bool SendAll(int to, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }

  const Script script_;
  const int listener_;
  int port_ = 0;
  std::atomic<bool> ending_ = false;
  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<std::string> requests_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace conclave::http
