// SPDX-License-Identifier: Apache-2.0
// What a model is read from, whatever the format: tensors by name over mapped bytes, and metadata in the format's own
// form. The rooms above bind tensors over this interface and have one metadata reader per form.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/status.h"
#include "engine/tensor/dtype.h"
#include "engine/tensor/shape.h"

namespace conclave::engine {

class GgufFile;
class HfDirectory;

// FAILED_PRECONDITION "MODEL_FILE_INVALID <path>: ..": what every reader of a checkpoint says of a bad one.
template <typename... Args>
absl::Status ModelFileInvalid(std::string_view path, fmt::format_string<Args...> format, Args&&... args) {
  return FailedPrecondition("MODEL_FILE_INVALID {}: {}", path, fmt::format(format, std::forward<Args>(args)...));
}

// As it lies in the file. `bytes` has the size that format and shape say.
struct CheckpointTensor {
  std::string_view name;
  DType dtype;
  Shape shape;  // slowest to fastest: a matrix is [N, K]
  std::span<const std::byte> bytes;
};

// Immutable, so thread-safe. Names and bytes point into mapped files and live as long as the object.
class Checkpoint {
 public:
  Checkpoint() = default;
  virtual ~Checkpoint() = default;
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  // Maps and checks what lies at `path`: a GGUF file, the first of several, or a Hugging Face directory. NOT_FOUND or
  // INTERNAL when it cannot be opened, else FAILED_PRECONDITION MODEL_FILE_INVALID.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path);
  // The same for its metadata alone, where weights may be absent: also a directory without them, or the config.json or
  // tokenizer.json in it.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> OpenMetadata(const std::string& path);

  virtual const std::string& path() const = 0;
  // SHA-256 of metadata, tensor tables and sizes: identifies the weights without reading them.
  virtual std::string Revision() const = 0;

  virtual std::span<const CheckpointTensor> tensors() const = 0;
  virtual const CheckpointTensor* FindTensor(std::string_view name) const = 0;  // nullptr if absent
  // The tensor, whose shape must be `shape`; MODEL_FILE_INVALID names what is missing or misshapen.
  absl::StatusOr<CheckpointTensor> GetTensor(std::string_view name, const Shape& shape) const;

  // Fails if a mapped file shrank. Call when the last tensor has been read.
  virtual absl::Status CheckIntact() const = 0;
  // Gives back the memory of a tensor's bytes, which may still be read.
  virtual void DropResident(std::span<const std::byte> bytes) const = 0;

  // The metadata in its own form: exactly one is not null.
  virtual const GgufFile* gguf() const { return nullptr; }
  virtual const HfDirectory* hf() const { return nullptr; }
};

}  // namespace conclave::engine
