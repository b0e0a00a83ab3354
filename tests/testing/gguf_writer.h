// SPDX-License-Identifier: Apache-2.0
// Writes small GGUF files for tests: well-formed by default, with doors to write what a reader must refuse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/tensor/dtype.h"
#include "engine/tensor/shape.h"

namespace conclave::testing {

// Usage: GgufWriter w; w.Add("general.architecture", "llama").Add("llama.block_count", 2u).AddTensor(..); w.Write(path)
class GgufWriter {
 public:
  uint32_t version = 3;
  uint32_t alignment = 32;  // declared in the file when it is not 32

  // Scalars: uint8_t .. int64_t, float, double, bool.
  template <typename T>
  requires std::is_arithmetic_v<T> GgufWriter& Add(std::string_view key, T value) {
    return AddRaw(key, TypeNumber<T>(), Bytes(&value, sizeof(value)));
  }
  GgufWriter& Add(std::string_view key, std::string_view value);
  GgufWriter& Add(std::string_view key, const char* value) { return Add(key, std::string_view(value)); }
  // Arrays of the same, and of strings.
  template <typename T>
  requires std::is_arithmetic_v<T> GgufWriter& AddArray(std::string_view key, const std::vector<T>& values) {
    return AddRawArray(key, TypeNumber<T>(), values.size(), Bytes(values.data(), values.size() * sizeof(T)));
  }
  GgufWriter& AddArray(std::string_view key, const std::vector<std::string>& values);

  // Shape slowest to fastest, as everywhere but in the file. `bytes` must have the size that shape and dtype give.
  GgufWriter& AddTensor(std::string_view name, engine::DType dtype, const engine::Shape& shape, std::string bytes);
  GgufWriter& AddTensor(std::string_view name, const engine::Shape& shape, const std::vector<float>& values);

  // ---- Ways to write nonsense.
  GgufWriter& AddRaw(std::string_view key, uint32_t type, std::string_view value);
  GgufWriter& AddRawArray(std::string_view key, uint32_t element_type, uint64_t declared_count, std::string_view bytes);
  // Dimensions in file order (fastest first); no padding or data of its own is written.
  GgufWriter& AddRawTensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset);

  // The file. The last tensor is padded too.
  std::string Build() const;
  void Write(const std::string& path) const;

 private:
  template <typename T>
  static constexpr uint32_t TypeNumber() {
    if constexpr (std::is_same_v<T, bool>) return 7;
    if constexpr (std::is_same_v<T, float>) return 6;
    if constexpr (std::is_same_v<T, double>) return 12;
    if constexpr (sizeof(T) == 1) return std::is_signed_v<T> ? 1 : 0;
    if constexpr (sizeof(T) == 2) return std::is_signed_v<T> ? 3 : 2;
    if constexpr (sizeof(T) == 4) return std::is_signed_v<T> ? 5 : 4;
    return std::is_signed_v<T> ? 11 : 10;
  }
  static std::string_view Bytes(const void* data, size_t size) {
    return std::string_view(static_cast<const char*>(data), size);
  }

  uint64_t num_values_ = 0;
  std::string values_;
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dims;
    uint32_t type;
    bool raw;
    uint64_t raw_offset;
    std::string bytes;
  };
  std::vector<Tensor> tensors_;
};

// The number GGUF gives to a dtype.
uint32_t GgufTensorType(engine::DType dtype);

}  // namespace conclave::testing
