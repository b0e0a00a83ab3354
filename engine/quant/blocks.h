// SPDX-License-Identifier: Apache-2.0
// GGUF block formats as they lie in a file, little endian. Formulas: specs/models.md section 4, "GGUF blocks"; they are
// ggml's definitions, checked against the `gguf` Python package's dequantize.
#pragma once

#include <cstdint>

namespace conclave::engine::quant {

inline constexpr int kBlock = 32;        // elements of a simple block
inline constexpr int kSuperBlock = 256;  // elements of a K-quant block: 8 sub-blocks of 32

// In Q4 and Q5 blocks byte j holds element j in its low nibble and element j + 16 in its high nibble.
struct BlockQ4_0 {  // (q - 8) d
  uint16_t d;
  uint8_t q[16];
};
struct BlockQ4_1 {  // q d + m
  uint16_t d, m;
  uint8_t q[16];
};
struct BlockQ5_0 {  // (q - 16) d; bit j of `high` is bit 4 of element j
  uint16_t d;
  uint8_t high[4];
  uint8_t q[16];
};
struct BlockQ5_1 {  // q d + m
  uint16_t d, m;
  uint8_t high[4];
  uint8_t q[16];
};
struct BlockQ8_0 {  // q d
  uint16_t d;
  int8_t q[32];
};
// K-quants: q (d * scale) - dmin * min. Bytes 32 i .. 32 i + 31 of q hold sub-block 2 i in the low nibbles and 2 i + 1
// in the high ones.
struct BlockQ4_K {
  uint16_t d, dmin;
  uint8_t scales[12];  // eight 6-bit scales and eight 6-bit mins, see UnpackScaleMin
  uint8_t q[128];
};
struct BlockQ5_K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t high[32];  // bit s of byte l is bit 4 of element l of sub-block s
  uint8_t q[128];
};
struct BlockQ6_K {  // (q - 32) (d * scale), one signed scale per 16 elements
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  uint16_t d;
};
static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22 &&
              sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_K) == 144 &&
              sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

// The 6-bit scale and min of sub-block j (0..7).
struct ScaleMin {
  uint8_t scale, min;
};
inline ScaleMin UnpackScaleMin(const uint8_t* scales, int j) {
  if (j < 4) return {static_cast<uint8_t>(scales[j] & 63), static_cast<uint8_t>(scales[j + 4] & 63)};
  return {static_cast<uint8_t>((scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4)),
          static_cast<uint8_t>((scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))};
}

// Element e (0..255) of a Q6_K block, 0..63, the offset of 32 not yet removed.
inline uint8_t Q6Element(const BlockQ6_K& block, int e) {
  const int half = e / 128, lane = e % 32, quarter = (e % 128) / 32;
  const uint8_t low = block.low[half * 64 + (quarter % 2) * 32 + lane];
  const uint8_t nibble = quarter < 2 ? low & 15 : low >> 4;
  const uint8_t high = (block.high[half * 32 + lane] >> (2 * quarter)) & 3;
  return static_cast<uint8_t>(nibble | (high << 4));
}

}  // namespace conclave::engine::quant
