// SPDX-License-Identifier: Apache-2.0
// Group formats: rows of codes whose neighbours share a scale, as AWQ, GPTQ, FP8 and compressed-tensors checkpoints
// mean them. Those lay codes out by column or by word; their readers put rows together in these blocks, without loss.
#pragma once

#include <bit>
#include <cstdint>

#include "engine/quant/half.h"

namespace conclave::engine::quant {

// A group's scale and zero point in one word. Scale: the upper 24 bits of a float, which hold every half and every
// bfloat16; zero point: 0..255. The value of a code is (code - zero) scale, exact in a float.
struct GroupScale {
  uint32_t word;

  float scale() const { return std::bit_cast<float>(word & ~0xffu); }
  int zero() const { return static_cast<int>(word & 0xff); }
};
// Whether the word has room for `scale`.
inline bool FitsGroupScale(float scale) { return (std::bit_cast<uint32_t>(scale) & 0xff) == 0; }
// REQUIRES: FitsGroupScale(scale), zero in 0..255.
inline GroupScale MakeGroupScale(float scale, int zero) {
  return {std::bit_cast<uint32_t>(scale) | static_cast<uint32_t>(zero)};
}

// Bytes 16 b + j of q hold element 32 b + j in their low and 32 b + j + 16 in their high nibbles. Zero: 0..16.
template <int kSize>
struct BlockInt4 {
  static constexpr int kElements = kSize;
  GroupScale scale;
  uint8_t q[kSize / 2];
};
template <int kSize>
struct BlockInt8 {
  static constexpr int kElements = kSize;
  GroupScale scale;
  uint8_t q[kSize];
};
struct BlockFp8 {  // q scale; a row's last block may end after any element
  static constexpr int kElements = 128;
  float scale;
  uint8_t q[128];  // e4m3
};
static_assert(sizeof(BlockInt4<32>) == 20 && sizeof(BlockInt4<128>) == 68 && sizeof(BlockInt8<128>) == 132 &&
              sizeof(BlockFp8) == 132);

// OCP 8-bit float e4m3: bias 7, no infinities, 0x7f and 0xff are not numbers. Exact.
inline bool IsFp8Nan(uint8_t code) { return (code & 0x7f) == 0x7f; }
inline float Fp8ToFloat(uint8_t code) {
  const uint16_t sign = static_cast<uint16_t>((code & 0x80) << 8);
  if (IsFp8Nan(code)) return HalfToFloat(sign | 0x7e00u);
  return HalfToFloat(static_cast<uint16_t>(sign | ((code & 0x7f) << 7))) * 256.0f;  // a half's bias is 15
}
// The nearest code, of two the even one; 448 beyond it; not-a-number stays.
uint8_t FloatToFp8(float value);

}  // namespace conclave::engine::quant
