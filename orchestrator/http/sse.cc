// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/http/sse.h"

#include <algorithm>
#include <utility>

#include "common/status.h"

namespace conclave::http {

absl::Status SseReader::Push(std::string_view bytes) {
  while (!bytes.empty()) {
    if (std::exchange(after_return_, false) && bytes.front() == '\n') bytes.remove_prefix(1);
    const size_t end = bytes.find_first_of("\r\n");
    line_ += bytes.substr(0, end);
    if (static_cast<int64_t>(line_.size()) > kSseEventBytesMax) {
      return ResourceExhausted("a line of the event stream has more than {} bytes", kSseEventBytesMax);
    }
    if (end == bytes.npos) break;
    after_return_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    RETURN_IF_ERROR(Line(line_));
    line_.clear();
  }
  return absl::OkStatus();
}

absl::Status SseReader::Line(std::string_view line) {
  if (line.empty()) {
    if (std::exchange(has_data_, false)) on_data_(std::exchange(data_, {}));
    return absl::OkStatus();
  }
  constexpr std::string_view kField = "data";
  if (!line.starts_with(kField) || (line.size() > kField.size() && line[kField.size()] != ':')) return absl::OkStatus();
  line.remove_prefix(std::min(line.size(), kField.size() + 1));
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (has_data_) data_ += '\n';
  has_data_ = true;
  data_ += line;
  if (static_cast<int64_t>(data_.size()) > kSseEventBytesMax) {
    return ResourceExhausted("an event of the stream has more than {} bytes", kSseEventBytesMax);
  }
  return absl::OkStatus();
}

}  // namespace conclave::http
