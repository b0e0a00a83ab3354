// SPDX-License-Identifier: Apache-2.0
// A connection as cpp-httplib reads and writes it, with the limits that its own streams lack: how long a head may be
// and take, how much may follow it, how long silence may last. Both ends use it. Private to this folder.
#pragma once

#include <httplib.h>

#include <cstdint>
#include <limits>
#include <string>

#include "common/clock.h"

namespace conclave::http {

struct StreamLimits {
  int64_t head_bytes_max = 0;        // request or status line with all headers
  int64_t first_line_bytes_max = 0;  // httplib matches a status line with a recursive regular expression
  int64_t head_ns = 0;               // for the whole head
  int64_t body_bytes_max = std::numeric_limits<int64_t>::max();  // on the wire, after the head
  int64_t silence_ns = 0;                                        // between two reads after the head, and for a write
};

// Not thread-safe, except for gone(). Owns neither the socket nor the TLS session.
class EdgeStream final : public httplib::Stream {
 public:
  EdgeStream(socket_t socket, SSL* tls, const StreamLimits& limits, const Clock& clock)
      : socket_(socket), tls_(tls), limits_(limits), clock_(clock) {}

  enum class Head : uint8_t { kWhole, kClosed, kTooLarge, kTooSlow };
  // Reads up to the blank line that ends a head. Until the next call the head is what read() gives first.
  Head ReadHead();
  // Of ReadHead, as it came.
  std::string_view head() const { return std::string_view(buffer_).substr(0, head_size_); }
  // Something has come that was not read yet.
  bool buffered() const;
  // The other end has closed, at least its sending half, or the connection is broken.
  bool gone() const;
  // What ended a read or write was that nothing moved for too long.
  bool silent() const { return silent_; }
  // For a stream whose user does not read heads by itself: read() does.
  void ReadHeadFirst() { head_wanted_ = true; }

  // ---- httplib::Stream
  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  // Waits until the socket is ready for `events`, no longer than `until_ns`.
  bool Wait(int16_t events, int64_t until_ns) const;  // false: it was not
  ssize_t Receive(char* to, size_t size, int64_t until_ns);

  const socket_t socket_;
  SSL* const tls_;
  const StreamLimits limits_;
  const Clock& clock_;
  std::string buffer_;  // a head and what came with it
  size_t head_size_ = 0;
  size_t given_ = 0;  // of buffer_
  int64_t body_bytes_ = 0;
  bool head_wanted_ = false;
  mutable bool silent_ = false;
};

}  // namespace conclave::http
