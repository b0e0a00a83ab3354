// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/line_reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/status.h"

namespace conclave::benchmark {
namespace {

constexpr size_t kChunk = size_t{1} << 18;

}  // namespace

absl::StatusOr<LineReader> LineReader::Open(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return NotFound("{}: no such file, or not readable", path);
  if (S_ISDIR(info.st_mode)) return InvalidArgument("{}: is a directory, a file was expected", path);
  LineReader reader(path);
  reader.file_.reset(gzopen(path.c_str(), "rb"));  // reads plain files as they are
  if (reader.file_ == nullptr) return NotFound("{}: no such file, or not readable", path);
  gzbuffer(reader.file_.get(), kChunk);
  return reader;
}

absl::Status LineReader::Error(std::string_view message) const {
  return InvalidArgument("{}:{}: {}", path_, line_number_, message);
}

absl::Status LineReader::Fill() {
  buffer_.erase(0, next_);
  filled_ -= next_;
  next_ = 0;
  buffer_.resize(filled_ + kChunk + kPadding);
  const int n = gzread(file_.get(), buffer_.data() + filled_, kChunk);
  int code = Z_OK;
  gzerror(file_.get(), &code);
  if (n < 0 || (code != Z_OK && code != Z_STREAM_END)) {
    return DataLoss("{}: gzip data is corrupt or cut short, or the file cannot be read", path_);
  }
  filled_ += static_cast<size_t>(n);
  at_end_ = n == 0;
  return absl::OkStatus();
}

absl::StatusOr<bool> LineReader::Next() {
  while (true) {
    size_t searched = next_;
    size_t found = std::string::npos;
    while (true) {
      const void* newline = std::memchr(buffer_.data() + searched, '\n', filled_ - searched);
      if (newline != nullptr) {
        found = static_cast<size_t>(static_cast<const char*>(newline) - buffer_.data());
        break;
      }
      if (at_end_) break;
      if (filled_ - next_ > kLineBytesMax) break;
      const size_t seen = filled_ - next_;
      RETURN_IF_ERROR(Fill());
      searched = next_ + seen;
    }
    const size_t stop = std::min(found, filled_);
    if (found == std::string::npos && stop == next_) return false;
    ++line_number_;
    if (stop - next_ > kLineBytesMax) {
      return ResourceExhausted("{}:{}: line longer than the limit of {} bytes", path_, line_number_, kLineBytesMax);
    }
    begin_ = next_;
    end_ = stop;
    next_ = found == std::string::npos ? filled_ : found + 1;
    if (end_ > begin_ && buffer_[end_ - 1] == '\r') --end_;
    if (line().find_first_not_of(" \t\r") != std::string_view::npos) return true;
  }
}

}  // namespace conclave::benchmark
