// SPDX-License-Identifier: Apache-2.0
// A bad network in a test: a TCP proxy on loopback that delays, hands on single bytes, or hands on nothing at all while
// its connections live.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "common/check.h"

namespace conclave::testing {

// Thread-safe. Ends all connections with the object.
class ChaosProxy {
 public:
  // `target`: 127.0.0.1:PORT.
  explicit ChaosProxy(const std::string& target)
      : target_port_(static_cast<uint16_t>(std::stoi(target.substr(target.rfind(':') + 1)))) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in any = Loopback(0);
    CONCLAVE_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&any), sizeof(any)) == 0 && listen(listener_, 16) == 0);
    socklen_t size = sizeof(any);
    CONCLAVE_CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&any), &size) == 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(any.sin_port));
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~ChaosProxy() {
    stop_ = true;
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (std::thread& pump : pumps_) pump.join();
    for (const int fd : sockets_) close(fd);
    close(listener_);
  }
  ChaosProxy(const ChaosProxy&) = delete;
  ChaosProxy& operator=(const ChaosProxy&) = delete;

  const std::string& address() const { return address_; }
  // Nothing gets through, in either direction; what is sent meanwhile comes later.
  void Cut(bool cut) { cut_ = cut; }
  // Before each piece, in each direction.
  void set_delay_ms(int ms) { delay_ms_ = ms; }
  // At most so many bytes are handed on at once.
  void set_piece_bytes(size_t bytes) { piece_bytes_ = bytes; }

 private:
  static sockaddr_in Loopback(uint16_t port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  void Accept() {
    while (!stop_) {
      const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) continue;
      const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in target = Loopback(target_port_);
      if (connect(server, reinterpret_cast<sockaddr*>(&target), sizeof(target)) != 0) {
        close(client);
        close(server);
        continue;
      }
      const int on = 1;
      for (const int fd : {client, server}) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      sockets_.insert(sockets_.end(), {client, server});
      pumps_.emplace_back([this, client, server] { Pump(client, server); });
      pumps_.emplace_back([this, client, server] { Pump(server, client); });
    }
  }

  void Pump(int from, int to) {
    char buffer[4096];
    while (!stop_) {
      pollfd readable = {from, POLLIN, 0};
      if (cut_ || poll(&readable, 1, kLookMs) == 0) {
        if (cut_) poll(nullptr, 0, kLookMs);
        continue;
      }
      const ssize_t count = read(from, buffer, sizeof(buffer));
      if (count <= 0) break;
      if (const int delay = delay_ms_; delay > 0) poll(nullptr, 0, delay);
      while (cut_ && !stop_) poll(nullptr, 0, kLookMs);
      for (ssize_t at = 0; at < count;) {
        const size_t piece = std::min(piece_bytes_.load(), static_cast<size_t>(count - at));
        const ssize_t sent = send(to, buffer + at, piece, MSG_NOSIGNAL);
        if (sent <= 0) break;
        at += sent;
      }
    }
    shutdown(to, SHUT_RDWR);
    shutdown(from, SHUT_RDWR);
  }

  static constexpr int kLookMs = 10;
  const uint16_t target_port_;
  int listener_ = -1;
  std::string address_;
  std::atomic<bool> stop_ = false, cut_ = false;
  std::atomic<int> delay_ms_ = 0;
  std::atomic<size_t> piece_bytes_ = 4096;
  std::vector<int> sockets_;  // of the acceptor's thread, until it has ended
  std::vector<std::thread> pumps_;
  std::thread acceptor_;
};

}  // namespace conclave::testing
