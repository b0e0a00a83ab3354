// SPDX-License-Identifier: Apache-2.0
// Lines of a text file, plain or gzip, one at a time: memory is one line, whatever the file's size.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::benchmark {

// A longer line is RESOURCE_EXHAUSTED.
inline constexpr size_t kLineBytesMax = size_t{16} << 20;

// Not safe for use by several threads at once.
class LineReader {
 public:
  // NOT_FOUND, or INVALID_ARGUMENT for a directory.
  static absl::StatusOr<LineReader> Open(const std::string& path);

  // Reads the next line that is not blank into line(); false at the end of the file. DATA_LOSS for a corrupt or cut
  // gzip stream.
  absl::StatusOr<bool> Next();

  // The line without its line break, valid until the next call of Next. `padding` more bytes behind it may be read.
  std::string_view line() const { return std::string_view(buffer_).substr(begin_, end_ - begin_); }
  size_t line_number() const { return line_number_; }  // from 1
  static constexpr size_t kPadding = 64;

  // An error about the present line: "path:7: message".
  absl::Status Error(std::string_view message) const;

 private:
  struct Close {
    void operator()(gzFile file) const { gzclose(file); }
  };
  explicit LineReader(std::string path) : path_(std::move(path)) {}

  absl::Status Fill();

  std::string path_;
  std::unique_ptr<gzFile_s, Close> file_;
  std::string buffer_;  // kPadding bytes longer than what was read
  size_t filled_ = 0;   // bytes of buffer_ that hold file contents
  size_t begin_ = 0;    // of the present line
  size_t end_ = 0;
  size_t next_ = 0;  // where the next line begins
  size_t line_number_ = 0;
  bool at_end_ = false;
};

}  // namespace conclave::benchmark
