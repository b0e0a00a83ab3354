// SPDX-License-Identifier: Apache-2.0
// Internal to engine/format: builds a GgufFile from bytes.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "engine/format/byte_reader.h"
#include "engine/format/gguf.h"

namespace conclave::engine {

// Bytes of one element of a fixed-size type; 0 for strings, arrays and unknown types.
uint32_t FixedBytes(GgufType type);

// Text from the file, safe to print: long names are cut, control and non-ASCII bytes shown as '?'.
std::string Printable(std::string_view text);

class GgufParser {
 public:
  // `file->path_` and `file->bytes_` are set; fills in the rest.
  explicit GgufParser(GgufFile* file) : file_(file), reader_(file->bytes_) {}
  absl::Status Parse();

 private:
  // A tensor as declared, before its bytes are located.
  struct Declared {
    CheckpointTensor tensor;
    uint64_t offset;  // from the start of the data section
    uint64_t size;    // bytes
  };

  absl::Status ParseHeader();
  absl::Status ParseValues();
  absl::StatusOr<GgufValue> ParseValue(const std::string& key);
  absl::Status ParseArray(const std::string& key, GgufValue* value);
  absl::Status CheckBools(const std::string& key, std::span<const std::byte> bytes) const;
  absl::Status ParseAlignment();
  absl::Status ParseTensorTable();
  absl::StatusOr<Declared> ParseTensor(uint64_t index);
  absl::Status ParseShape(Declared* declared, std::string_view name);
  absl::Status PlaceTensors();
  // A length-prefixed string; `what` names it in errors.
  absl::StatusOr<std::string_view> ParseString(std::string_view what, uint64_t bytes_max);
  template <typename T>
  absl::StatusOr<T> Number(std::string_view what);
  absl::Status Truncated(std::string_view what, uint64_t needed) const;

  GgufFile* const file_;
  ByteReader reader_;
  uint64_t num_tensors_ = 0;
  uint64_t num_values_ = 0;
  uint64_t alignment_ = 32;
  std::vector<Declared> declared_;
};

}  // namespace conclave::engine
