// SPDX-License-Identifier: Apache-2.0
// Reads safetensors (https://github.com/huggingface/safetensors): eight bytes of length, a JSON table, raw tensors. The
// file is untrusted: the table must describe exactly the bytes that follow it, without gap or overlap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/format/mapped_file.h"

namespace conclave::engine {

// Limits on what a file may hold; each far above what real checkpoints have.
inline constexpr uint64_t kSafetensorsHeaderBytesMax = 16 << 20;
inline constexpr size_t kSafetensorsTensorsMax = 100'000;
inline constexpr size_t kSafetensorsNameBytesMax = 1024;

// Immutable after opening, so thread-safe. Views point into the mapping and live as long as the object.
//
// Errors are FAILED_PRECONDITION "MODEL_FILE_INVALID <path>: ..", and name the tensor and the value found.
class SafetensorsFile {
 public:
  // Maps and checks the file. NOT_FOUND or INTERNAL when it cannot be opened.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);
  // The same over bytes that the caller keeps alive; `name` stands for the path in errors.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Parse(std::string name, std::span<const std::byte> bytes);

  const std::string& path() const { return path_; }
  uint64_t file_bytes() const { return bytes_.size(); }
  std::span<const std::byte> header_bytes() const { return header_; }
  // In the order of their bytes.
  std::span<const CheckpointTensor> tensors() const { return tensors_; }

  absl::Status CheckIntact() const;                           // OK for Parse()
  void DropResident(std::span<const std::byte> bytes) const;  // `bytes` may belong to another file: then nothing

 private:
  SafetensorsFile() = default;
  absl::Status ParseHeader();
  absl::Status ParseTable();
  absl::Status CheckCover();

  std::string path_;
  std::unique_ptr<MappedFile> file_;  // null for Parse()
  std::span<const std::byte> bytes_, header_, data_;
  std::vector<std::string> names_;
  std::vector<CheckpointTensor> tensors_;
};

}  // namespace conclave::engine
