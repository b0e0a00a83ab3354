// SPDX-License-Identifier: Apache-2.0
// One POST to a server that may be anything: bounded in every direction, read as it comes, given up from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"

namespace conclave::http {

struct Url {
  bool tls = false;
  std::string host;
  int32_t port = 0;
  std::string path;  // without a slash at its end; "" for the root
};
// "http://HOST[:PORT][/PATH]" or https. INVALID_ARGUMENT for anything else, queries and names with a password included.
absl::StatusOr<Url> ParseUrl(std::string_view text);

struct PostLimits {
  int64_t connect_ns = 5'000'000'000;
  int64_t silence_ns = 60'000'000'000;  // before the head and between two pieces
  int64_t body_bytes_max = int64_t{64} << 20;
};

struct ReplyHead {
  int status = 0;
  std::string content_type;
  std::string retry_after;
};

// On a connection of its own. Run once, on the caller's thread, which it blocks.
class Post {
 public:
  // `authorities`: PEM file for https; "" the system's. Certificates are always verified; redirects are not followed.
  Post(const Url& server, const PostLimits& limits, const std::string& authorities, const Clock& clock);
  ~Post();
  Post(const Post&) = delete;
  Post& operator=(const Post&) = delete;

  // OK when a whole reply has come. UNAVAILABLE NOT_CONNECTED when nobody answered, UNAVAILABLE when the connection
  // broke, DEADLINE_EXCEEDED for silence, CANCELLED after Stop or when a function returned false.
  absl::Status Run(const std::string& path, std::vector<std::pair<std::string, std::string>> headers, std::string body,
                   std::function<bool(const ReplyHead&)> on_head, std::function<bool(std::string_view)> on_piece);
  // From any thread, also before Run.
  void Stop();

 private:
  class Connection;
  template <typename Base>
  class Bounded;
  std::unique_ptr<Connection> connection_;
  const std::string where_;  // for errors
};

}  // namespace conclave::http
