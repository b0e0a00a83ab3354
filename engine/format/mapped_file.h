// SPDX-License-Identifier: Apache-2.0
// A file mapped read-only, guarded against being shortened while mapped.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::engine {

// Touching a page beyond the end of a mapped file raises SIGBUS, and any process that may write the file can cause
// that by truncating it. A handler, installed once per process, turns such a page of ours into zeros and remembers;
// CheckIntact() then fails. Faults elsewhere go to the handler that was there before.
//
// Thread-safe. The bytes live as long as the object.
class MappedFile {
 public:
  static constexpr int kMappedFilesMax = 512;  // guarded at one time, per process

  // NOT_FOUND or INTERNAL when the file cannot be opened, FAILED_PRECONDITION MODEL_FILE_INVALID when it is empty or
  // not a regular file, RESOURCE_EXHAUSTED beyond kMappedFilesMax.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  // FAILED_PRECONDITION MODEL_FILE_INVALID if the file is now shorter than it was mapped, or was when a page was read.
  // Call after the last read of what must not be zeros: when loading has ended.
  absl::Status CheckIntact() const;

  // Gives back the memory that whole pages within `part` occupy; a later read maps them again. For tensors that were
  // copied elsewhere. `part` must lie within bytes().
  void DropResident(std::span<const std::byte> part) const;

 private:
  MappedFile(std::string path, int descriptor, std::span<const std::byte> bytes, int guard)
      : path_(std::move(path)), descriptor_(descriptor), bytes_(bytes), guard_(guard) {}

  const std::string path_;
  const int descriptor_;
  const std::span<const std::byte> bytes_;
  const int guard_;  // index into the table of guarded ranges
};

}  // namespace conclave::engine
