// SPDX-License-Identifier: Apache-2.0
// GGUF block formats as they lie in a file, little endian. Formulas: specs/models.md section 4, "GGUF blocks"; they are
// ggml's definitions, checked against the `gguf` Python package's dequantize.
#pragma once

#include <bit>
#include <cstdint>

namespace conclave::engine::quant {

inline constexpr int kBlock = 32;        // elements of a simple block
inline constexpr int kSuperBlock = 256;  // elements of a K-quant block: 8 sub-blocks of 32, or 16 of 16

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
struct BlockQ2_K {     // q (d * scale) - dmin * min, per 16 elements
  uint8_t scales[16];  // scale in the low nibble, min in the high one
  uint8_t q[64];       // see Q2Element
  uint16_t d, dmin;
};
struct BlockQ3_K {     // (q - 4) (d * scale), one scale per 16 elements
  uint8_t high[32];    // bit s of byte l is bit 2 of element l of sub-block s of 32
  uint8_t q[64];       // the two lower bits, as in Q2_K
  uint8_t scales[12];  // see Q3Scale
  uint16_t d;
};
// The four bits number a value of kIq4Values.
struct BlockIQ4_NL {  // value d
  uint16_t d;
  uint8_t q[16];
};
struct BlockIQ4_XS {  // value (d * scale), one scale per 32 elements; sub-block s is bytes 16 s .. of q, as in IQ4_NL
  uint16_t d;
  uint16_t scales_high;  // see Iq4XsScale
  uint8_t scales_low[4];
  uint8_t q[128];
};
struct BlockMXFP4 {  // value 2^(e - 128), a value of kE2m1Doubled
  uint8_t e;
  uint8_t q[16];
};
static_assert(sizeof(BlockMXFP4) == 17);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110 && sizeof(BlockIQ4_NL) == 18 &&
              sizeof(BlockIQ4_XS) == 136);
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

// Element e (0..255) of the two-bit plane of Q2_K and Q3_K: byte l of a half holds elements l, l + 32, l + 64, l + 96.
inline uint8_t Q2Element(const uint8_t* q, int e) {
  return static_cast<uint8_t>((q[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2)) & 3);
}

// Element e of a Q3_K block, 0..7, the offset of 4 not yet removed.
inline uint8_t Q3Element(const BlockQ3_K& block, int e) {
  return static_cast<uint8_t>(Q2Element(block.q, e) | ((block.high[e % 32] >> (e / 32) & 1) << 2));
}

// The scale of the 16 elements j (0..15) of a Q3_K block, -32..31: four bits in bytes 0..7, two above them in 8..11.
inline int8_t Q3Scale(const BlockQ3_K& block, int j) {
  const int low = (block.scales[j % 8] >> (j / 8 * 4)) & 15, high = (block.scales[8 + j % 4] >> (j / 4 * 2)) & 3;
  return static_cast<int8_t>((low | (high << 4)) - 32);
}

// ggml's kvalues_iq4nl.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// The 4-bit floats of OCP microscaling (sign, 2 bits of exponent, 1 of mantissa), doubled; ggml's kvalues_mxfp4.
inline constexpr int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 2^(e - 128): half the scale, for doubled values. Of 255, which OCP calls not a number, it is 2^127, as in ggml.
inline float HalfE8m0Scale(uint8_t e) {
  return std::bit_cast<float>(e < 2 ? uint32_t{0x00200000} << e : (uint32_t{e} - 1) << 23);
}

// The scale of sub-block s (0..7), -32..31.
inline int8_t Iq4XsScale(const BlockIQ4_XS& block, int s) {
  const int low = (block.scales_low[s / 2] >> (s % 2 * 4)) & 15, high = (block.scales_high >> (2 * s)) & 3;
  return static_cast<int8_t>((low | (high << 4)) - 32);
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
