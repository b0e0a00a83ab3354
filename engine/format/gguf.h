// SPDX-License-Identifier: Apache-2.0
// Reads GGUF, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): typed metadata and a table
// of tensors over a mapped file. The file is untrusted: every count, length and offset is checked, with arithmetic that
// cannot wrap, before it is used, and a file that passed can be read without further checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/format/mapped_file.h"

namespace conclave::engine {

// Limits on what a file may hold; each far above what real checkpoints have.
inline constexpr uint64_t kGgufKeysMax = 1 << 16;
inline constexpr uint64_t kGgufTensorsMax = 1 << 17;
inline constexpr uint64_t kGgufKeyBytesMax = 65535;  // the format's own
inline constexpr uint64_t kGgufTensorNameBytesMax = 255;
inline constexpr uint64_t kGgufStringBytesMax = 1 << 28;
inline constexpr uint64_t kGgufArrayElementsMax = 1 << 26;
inline constexpr uint32_t kGgufAlignmentMax = 1 << 16;

// Metadata value types, numbered as in the file.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};
std::string_view Name(GgufType type);  // "u32", "string", ..

// One metadata value. `bytes` is the scalar, the string's text, or an array's fixed-size elements, as in the file.
struct GgufValue {
  GgufType type = GgufType::kU8;
  GgufType element_type = GgufType::kU8;  // of an array
  uint64_t element_count = 0;             // of an array
  std::span<const std::byte> bytes;
  std::vector<std::string_view> strings;  // of an array of strings
};

// Errors are FAILED_PRECONDITION, "MODEL_FILE_INVALID <path>: ..", and name the key or tensor and the value found.
class GgufFile final : public Checkpoint {
 public:
  // Maps and checks the file. NOT_FOUND or INTERNAL when it cannot be opened.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(const std::string& path);
  // The same over bytes that the caller keeps alive; `name` stands for the path in errors.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Parse(std::string name, std::span<const std::byte> bytes);

  const std::string& path() const override { return path_; }
  uint32_t version() const { return version_; }
  // Header, metadata and tensor table, without the tensors.
  std::span<const std::byte> header_bytes() const { return bytes_.subspan(0, header_size_); }
  std::string Revision() const override;
  absl::Status CheckIntact() const override;                           // OK for Parse()
  void DropResident(std::span<const std::byte> bytes) const override;  // nothing for Parse(), nor for others' bytes
  const GgufFile* gguf() const override { return this; }

  // ---- Metadata. A missing key or a value of another type or out of range is an error that names both.
  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  absl::StatusOr<std::string_view> GetString(std::string_view key) const;
  // Integers of any width and sign are accepted where the value fits.
  absl::StatusOr<uint32_t> GetU32(std::string_view key) const;
  absl::StatusOr<uint64_t> GetU64(std::string_view key) const;
  absl::StatusOr<float> GetF32(std::string_view key) const;  // f32 or f64, finite
  absl::StatusOr<bool> GetBool(std::string_view key) const;
  absl::StatusOr<std::span<const std::string_view>> GetStrings(std::string_view key) const;
  absl::StatusOr<std::vector<uint32_t>> GetU32s(std::string_view key) const;
  absl::StatusOr<std::vector<int32_t>> GetI32s(std::string_view key) const;
  absl::StatusOr<std::vector<float>> GetF32s(std::string_view key) const;  // f32, finite
  // For keys that may be absent: `fallback` then, but still an error for a wrong type.
  absl::StatusOr<uint32_t> GetU32Or(std::string_view key, uint32_t fallback) const;
  absl::StatusOr<float> GetF32Or(std::string_view key, float fallback) const;
  absl::StatusOr<bool> GetBoolOr(std::string_view key, bool fallback) const;
  absl::StatusOr<std::string_view> GetStringOr(std::string_view key, std::string_view fallback) const;

  const GgufValue* Find(std::string_view key) const;                     // nullptr if absent
  std::span<const std::string_view> keys() const { return key_order_; }  // in the file's order

  // ---- Tensors, in the file's order. The file stores shapes in reverse.
  std::span<const CheckpointTensor> tensors() const override { return tensors_; }
  const CheckpointTensor* FindTensor(std::string_view name) const override;

 private:
  friend class GgufParser;
  friend class SplitGguf;  // gives the first part the others' tensors
  GgufFile() = default;
  absl::StatusOr<const GgufValue*> Get(std::string_view key, std::string_view wanted) const;
  absl::Status WrongType(std::string_view key, const GgufValue& value, std::string_view wanted) const;

  std::string path_;
  std::unique_ptr<MappedFile> file_;  // null for Parse()
  std::span<const std::byte> bytes_;
  uint32_t version_ = 0;
  uint64_t header_size_ = 0;
  std::map<std::string, GgufValue, std::less<>> values_;
  std::vector<std::string_view> key_order_;
  std::vector<CheckpointTensor> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
};

}  // namespace conclave::engine
