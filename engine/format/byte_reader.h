// SPDX-License-Identifier: Apache-2.0
// A bounds-checked cursor over little-endian bytes of an untrusted file.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace conclave::engine {

static_assert(std::endian::native == std::endian::little, "checkpoint readers copy little-endian numbers as they are");

// Nothing is consumed by a read that fails. `offset` is always <= size, so `remaining` cannot wrap.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return bytes_.size() - offset_; }
  uint64_t size() const { return bytes_.size(); }

  template <typename T>
  std::optional<T> Read() {
    static_assert(std::is_arithmetic_v<T>);
    if (remaining() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  std::optional<std::span<const std::byte>> ReadBytes(uint64_t count) {
    if (count > remaining()) return std::nullopt;
    const auto bytes = bytes_.subspan(offset_, count);
    offset_ += count;
    return bytes;
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t offset_ = 0;
};

inline std::string_view AsText(std::span<const std::byte> bytes) {
  return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace conclave::engine
