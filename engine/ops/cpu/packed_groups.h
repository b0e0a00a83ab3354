// SPDX-License-Identifier: Apache-2.0
// The group formats (quant/group_blocks.h) as columns of packed groups: part of packed_weight.cc, like
// packed_formats.h. The layouts are in packed_weight.h.
#pragma once

#include <algorithm>

#include "engine/ops/cpu/packed_formats.h"
#include "engine/quant/group_blocks.h"

namespace conclave::engine::cpu::packed {

// A line of scales and zero points, then the codes of each 32 elements.

template <int kSize>
struct Int4 {
  using File = quant::BlockInt4<kSize>;
  static constexpr int kBlockBytes = 4 * kLine, kBytes = kLine + kSize / 32 * kBlockBytes;
  static void Pack(const File& b, int c, std::byte* p) {
    Store32(p + 4 * c, b.scale.word);
    for (int s = 0; s < kSize / 32; ++s) PutNibbles(b.q + 16 * s, c, p + kLine + s * kBlockBytes);
  }
  static void Unpack(const std::byte* p, int c, float* y) {
    const quant::GroupScale scale = {Load32(p + 4 * c)};
    for (int s = 0; s < kSize / 32; ++s) {
      uint8_t codes[32];
      GetNibbles(p + kLine + s * kBlockBytes, c, codes);
      for (int j = 0; j < 32; ++j) y[32 * s + j] = static_cast<float>(codes[j] - scale.zero()) * scale.scale();
    }
  }
};

template <int kSize>
struct Int8 {
  using File = quant::BlockInt8<kSize>;
  static constexpr int kBytes = kLine + kSize / 4 * kLine;
  static void Pack(const File& b, int c, std::byte* p) {
    Store32(p + 4 * c, b.scale.word);
    for (int t = 0; t < kSize / 4; ++t) Store32(p + (1 + t) * kLine + 4 * c, Load32(b.q + 4 * t));
  }
  static void Unpack(const std::byte* p, int c, float* y) {
    const quant::GroupScale scale = {Load32(p + 4 * c)};
    for (int j = 0; j < kSize; ++j) {
      const int code = Byte(p + (1 + j / 4) * kLine + 4 * c + j % 4);
      y[j] = static_cast<float>(code - scale.zero()) * scale.scale();
    }
  }
};

// Per 128 elements, the last of which may be fewer: [elements][16] codes, then a line of scales.
struct Fp8 {
  static constexpr int64_t kElements = quant::BlockFp8::kElements;
  static constexpr int64_t kHead = offsetof(quant::BlockFp8, q);
  static int64_t GroupBytes(int64_t k) { return k * 16 + (k + kElements - 1) / kElements * kLine; }
  static void Pack(const std::byte* row, int c, int64_t k, std::byte* group) {
    while (k > 0) {
      const int64_t count = std::min(k, kElements);
      for (int64_t i = 0; i < count; ++i) group[i * 16 + c] = row[kHead + i];
      Store32(group + count * 16 + 4 * c, Load32(row));
      row += kHead + count;
      group += count * 16 + kLine;
      k -= count;
    }
  }
  static void Unpack(const std::byte* group, int c, int64_t k, float* y) {
    while (k > 0) {
      const int64_t count = std::min(k, kElements);
      const float scale = std::bit_cast<float>(Load32(group + count * 16 + 4 * c));
      for (int64_t i = 0; i < count; ++i) *y++ = quant::Fp8ToFloat(Byte(group + i * 16 + c)) * scale;
      group += count * 16 + kLine;
      k -= count;
    }
  }
};

}  // namespace conclave::engine::cpu::packed
