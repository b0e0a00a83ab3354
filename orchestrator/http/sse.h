// SPDX-License-Identifier: Apache-2.0
// Server-sent events as they arrive (WHATWG HTML, 9.2.6), as far as data goes: names, ids and comments are passed over.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace conclave::http {

inline constexpr int64_t kSseEventBytesMax = 1 << 20;  // of a line, and of the data of one event

class SseReader {
 public:
  // Called with the data of each event, lines joined by '\n'.
  explicit SseReader(std::function<void(std::string_view)> on_data) : on_data_(std::move(on_data)) {}
  // RESOURCE_EXHAUSTED for a line or an event above the limit.
  absl::Status Push(std::string_view bytes);

 private:
  absl::Status Line(std::string_view line);

  const std::function<void(std::string_view)> on_data_;
  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;  // the last line ended in CR: a LF belongs to it
};

}  // namespace conclave::http
