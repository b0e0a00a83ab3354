// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/edge_stream.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace conclave::http {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr size_t kReadBytes = 16 << 10;

}  // namespace

bool EdgeStream::Wait(int16_t events, int64_t until_ns) const {
  while (true) {
    const int64_t left_ns = until_ns - clock_.NowNs();
    if (left_ns <= 0) {
      silent_ = true;
      return false;
    }
    pollfd ready = {socket_, events, 0};
    const int count = poll(&ready, 1, static_cast<int>(std::min<int64_t>(left_ns / kNsPerMs + 1, 60'000)));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) return false;
  }
}

// 0: the other end has finished; -1: broken, or nothing came in time.
ssize_t EdgeStream::Receive(char* to, size_t size, int64_t until_ns) {
  while (true) {
    if (tls_ == nullptr) {
      if (!Wait(POLLIN, until_ns)) return -1;
      const ssize_t count = recv(socket_, to, size, 0);
      if (count >= 0 || (errno != EINTR && errno != EAGAIN)) return count;
      continue;
    }
    if (SSL_pending(tls_) == 0 && !Wait(POLLIN, until_ns)) return -1;
    const int count = SSL_read(tls_, to, static_cast<int>(std::min<size_t>(size, 1 << 30)));
    if (count > 0) return count;
    const int error = SSL_get_error(tls_, count);
    if (error == SSL_ERROR_ZERO_RETURN) return 0;
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return -1;
  }
}

EdgeStream::Head EdgeStream::ReadHead() {
  buffer_.erase(0, given_);
  given_ = head_size_ = 0;
  body_bytes_ = 0;
  head_wanted_ = false;
  const int64_t until_ns = clock_.NowNs() + limits_.head_ns;
  size_t looked = 0;
  while (true) {
    // httplib ends a head at the first line that is empty but for its CRLF.
    const size_t end = buffer_.find("\n\r\n", looked < 2 ? 0 : looked - 2);
    const size_t line = std::min(buffer_.find('\n'), buffer_.size());
    if (static_cast<int64_t>(line) > limits_.first_line_bytes_max) return Head::kTooLarge;
    if (static_cast<int64_t>(std::min(end, buffer_.size())) > limits_.head_bytes_max) return Head::kTooLarge;
    if (end != std::string::npos) {
      head_size_ = end + 3;
      return Head::kWhole;
    }
    looked = buffer_.size();
    buffer_.resize(looked + kReadBytes);
    const ssize_t count = Receive(buffer_.data() + looked, kReadBytes, until_ns);
    buffer_.resize(looked + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    if (count == 0) return Head::kClosed;
    if (count < 0) return clock_.NowNs() >= until_ns ? Head::kTooSlow : Head::kClosed;
  }
}

bool EdgeStream::buffered() const { return given_ < buffer_.size() || (tls_ != nullptr && SSL_pending(tls_) > 0); }

bool EdgeStream::gone() const {
  pollfd state = {socket_, POLLRDHUP, 0};
  return poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

bool EdgeStream::is_readable() const { return buffered() || Wait(POLLIN, clock_.NowNs() + limits_.silence_ns); }

bool EdgeStream::is_writable() const { return !gone() && Wait(POLLOUT, clock_.NowNs() + limits_.silence_ns); }

ssize_t EdgeStream::read(char* to, size_t size) {
  if (head_wanted_ && ReadHead() != Head::kWhole) return -1;
  if (given_ < buffer_.size()) {
    const size_t count = std::min(size, buffer_.size() - given_);
    std::copy_n(buffer_.data() + given_, count, to);
    given_ += count;
    if (given_ > head_size_) body_bytes_ = static_cast<int64_t>(given_ - head_size_);
    return body_bytes_ > limits_.body_bytes_max ? -1 : static_cast<ssize_t>(count);
  }
  const ssize_t count = Receive(to, size, clock_.NowNs() + limits_.silence_ns);
  if (count > 0) body_bytes_ += count;
  return body_bytes_ > limits_.body_bytes_max ? -1 : count;
}

ssize_t EdgeStream::write(const char* from, size_t size) {
  const int64_t until_ns = clock_.NowNs() + limits_.silence_ns;
  while (true) {
    if (!Wait(POLLOUT, until_ns)) return -1;
    if (tls_ == nullptr) {
      const ssize_t count = send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count >= 0 || (errno != EINTR && errno != EAGAIN)) return count;
      continue;
    }
    const int count = SSL_write(tls_, from, static_cast<int>(std::min<size_t>(size, 1 << 30)));
    if (count > 0) return count;
    const int error = SSL_get_error(tls_, count);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return -1;
  }
}

// Nothing here asks who the other end is.
void EdgeStream::get_remote_ip_and_port(std::string& ip, int& port) const { ip.clear(), port = 0; }
void EdgeStream::get_local_ip_and_port(std::string& ip, int& port) const { ip.clear(), port = 0; }

}  // namespace conclave::http
