// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/check.h"
#include "engine/quant/blocks.h"
#include "engine/quant/codec.h"
#include "engine/quant/group_codec.h"
#include "engine/quant/half.h"

namespace conclave::engine::quant {
namespace {

int Code(float x, float inverse, int offset, int top) {
  return std::clamp(static_cast<int>(std::lrint(x * inverse)) + offset, 0, top);
}

float Inverse(float scale) { return scale != 0 ? 1 / scale : 0; }

float MaxMagnitude(const float* x, int n) {
  float m = 0;
  for (int i = 0; i < n; ++i) m = std::max(m, std::fabs(x[i]));
  return m;
}

// Symmetric blocks: codes 0..top around offset.
template <typename Block>
void EncodeSymmetric(const float* x, int offset, Block* b, uint8_t* codes) {
  const float d = MaxMagnitude(x, kBlock) / static_cast<float>(offset - 1);
  b->d = FloatToHalf(d);
  const float inverse = Inverse(HalfToFloat(b->d));
  for (int j = 0; j < kBlock; ++j) codes[j] = static_cast<uint8_t>(Code(x[j], inverse, offset, 2 * offset - 1));
}

// Blocks with a minimum: codes 0..top from m.
template <typename Block>
void EncodeWithMin(const float* x, int top, Block* b, uint8_t* codes) {
  const auto [low, high] = std::minmax_element(x, x + kBlock);
  b->m = FloatToHalf(*low);
  b->d = FloatToHalf((*high - *low) / static_cast<float>(top));
  const float inverse = Inverse(HalfToFloat(b->d)), m = HalfToFloat(b->m);
  for (int j = 0; j < kBlock; ++j) codes[j] = static_cast<uint8_t>(Code(x[j] - m, inverse, 0, top));
}

void StoreNibbles(const uint8_t* codes, uint8_t* q) {
  for (int j = 0; j < 16; ++j) q[j] = static_cast<uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
}

void StoreFifthBits(const uint8_t* codes, uint8_t* high) {
  uint32_t bits = 0;
  for (int j = 0; j < kBlock; ++j) bits |= static_cast<uint32_t>(codes[j] >> 4) << j;
  std::memcpy(high, &bits, sizeof(bits));
}

void Encode(const float* x, BlockQ4_0* b) {
  uint8_t codes[kBlock];
  EncodeSymmetric(x, 8, b, codes);
  StoreNibbles(codes, b->q);
}

void Encode(const float* x, BlockQ4_1* b) {
  uint8_t codes[kBlock];
  EncodeWithMin(x, 15, b, codes);
  StoreNibbles(codes, b->q);
}

void Encode(const float* x, BlockQ5_0* b) {
  uint8_t codes[kBlock];
  EncodeSymmetric(x, 16, b, codes);
  StoreNibbles(codes, b->q);
  StoreFifthBits(codes, b->high);
}

void Encode(const float* x, BlockQ5_1* b) {
  uint8_t codes[kBlock];
  EncodeWithMin(x, 31, b, codes);
  StoreNibbles(codes, b->q);
  StoreFifthBits(codes, b->high);
}

void Encode(const float* x, BlockQ8_0* b) {
  b->d = FloatToHalf(MaxMagnitude(x, kBlock) / 127);
  const float inverse = Inverse(HalfToFloat(b->d));
  for (int j = 0; j < kBlock; ++j) b->q[j] = static_cast<int8_t>(Code(x[j], inverse, 128, 255) - 128);
}

// Writes the 6-bit scales and mins so that UnpackScaleMin finds them.
void PackScaleMins(const uint8_t* scale, const uint8_t* min, uint8_t* packed) {
  std::memset(packed, 0, 12);
  for (int j = 0; j < 4; ++j) {
    packed[j] = static_cast<uint8_t>(scale[j] | ((scale[j + 4] >> 4) << 6));
    packed[j + 4] = static_cast<uint8_t>(min[j] | ((min[j + 4] >> 4) << 6));
    packed[j + 8] = static_cast<uint8_t>((scale[j + 4] & 15) | ((min[j + 4] & 15) << 4));
  }
}

// Codes of blocks with a scale and a min, themselves codes 0..scale_top, for each of kGroups groups.
template <int kGroups>
struct ScaleCodes {
  uint8_t scale[kGroups], min[kGroups];
};

// store(e, code) receives the elements' codes, 0..top; d and dmin of `b` are set.
template <int kGroups, typename Block, typename Store>
ScaleCodes<kGroups> EncodeWithMins(const float* x, int top, int scale_top, Block* b, Store store) {
  constexpr int kSize = kSuperBlock / kGroups;
  float scale[kGroups], min[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    const auto [low, high] = std::minmax_element(x + kSize * g, x + kSize * (g + 1));
    min[g] = std::max(0.0f, -*low);
    scale[g] = std::max(0.0f, *high + min[g]) / static_cast<float>(top);
  }
  b->d = FloatToHalf(*std::max_element(scale, scale + kGroups) / static_cast<float>(scale_top));
  b->dmin = FloatToHalf(*std::max_element(min, min + kGroups) / static_cast<float>(scale_top));
  const float d = HalfToFloat(b->d), dmin = HalfToFloat(b->dmin);
  ScaleCodes<kGroups> codes;
  for (int g = 0; g < kGroups; ++g) {
    codes.scale[g] = static_cast<uint8_t>(Code(scale[g], Inverse(d), 0, scale_top));
    codes.min[g] = static_cast<uint8_t>(Code(min[g], Inverse(dmin), 0, scale_top));
    const float inverse = Inverse(d * static_cast<float>(codes.scale[g]));
    for (int e = kSize * g; e < kSize * (g + 1); ++e) {
      store(e, Code(x[e] + dmin * static_cast<float>(codes.min[g]), inverse, 0, top));
    }
  }
  return codes;
}

// ORs an element's low nibble into the bytes of Q4_K and Q5_K, its low two bits into those of Q2_K and Q3_K.
void OrNibble(uint8_t* q, int e, int code) {
  q[e / 64 * 32 + e % 32] |= static_cast<uint8_t>(code << (e / 32 % 2 * 4));
}
void OrTwoBits(uint8_t* q, int e, int code) {
  q[e / 128 * 32 + e % 32] |= static_cast<uint8_t>(code << (e % 128 / 32 * 2));
}

void Encode(const float* x, BlockQ4_K* b) {
  std::memset(b, 0, sizeof(*b));
  const auto codes = EncodeWithMins<8>(x, 15, 63, b, [b](int e, int code) { OrNibble(b->q, e, code); });
  PackScaleMins(codes.scale, codes.min, b->scales);
}

void Encode(const float* x, BlockQ5_K* b) {
  std::memset(b, 0, sizeof(*b));
  const auto codes = EncodeWithMins<8>(x, 31, 63, b, [b](int e, int code) {
    OrNibble(b->q, e, code & 15);
    b->high[e % 32] |= static_cast<uint8_t>((code >> 4) << (e / 32));
  });
  PackScaleMins(codes.scale, codes.min, b->scales);
}

void Encode(const float* x, BlockQ2_K* b) {
  std::memset(b, 0, sizeof(*b));
  const auto codes = EncodeWithMins<16>(x, 3, 15, b, [b](int e, int code) { OrTwoBits(b->q, e, code); });
  for (int g = 0; g < 16; ++g) b->scales[g] = static_cast<uint8_t>(codes.scale[g] | (codes.min[g] << 4));
}

void Encode(const float* x, BlockQ3_K* b) {
  std::memset(b, 0, sizeof(*b));
  b->d = FloatToHalf(MaxMagnitude(x, kSuperBlock) / 3 / 31);
  const float d = HalfToFloat(b->d);
  for (int g = 0; g < 16; ++g) {
    const int scale = Code(MaxMagnitude(x + 16 * g, 16) / 3, Inverse(d), 0, 31);
    b->scales[g % 8] |= static_cast<uint8_t>(((scale + 32) & 15) << (g / 8 * 4));
    b->scales[8 + g % 4] |= static_cast<uint8_t>(((scale + 32) >> 4) << (g / 4 * 2));
    const float inverse = Inverse(d * static_cast<float>(scale));
    for (int e = 16 * g; e < 16 * g + 16; ++e) {
      const int code = Code(x[e], inverse, 4, 7);
      OrTwoBits(b->q, e, code & 3);
      b->high[e % 32] |= static_cast<uint8_t>((code >> 2) << (e / 32));
    }
  }
}

// The numbers of the nearest values of the table, two to a byte.
void EncodeTable(const float* x, float inverse, std::span<const int8_t, 16> table, uint8_t* q) {
  uint8_t codes[kBlock];
  for (int j = 0; j < kBlock; ++j) {
    const auto distance = [&](int8_t value) { return std::fabs(x[j] * inverse - static_cast<float>(value)); };
    const auto nearest =
        std::min_element(table.begin(), table.end(), [&](int8_t a, int8_t b) { return distance(a) < distance(b); });
    codes[j] = static_cast<uint8_t>(nearest - table.begin());
  }
  StoreNibbles(codes, q);
}

// The largest magnitude the table has on both sides.
constexpr float kIq4Top = 113;

void Encode(const float* x, BlockIQ4_NL* b) {
  b->d = FloatToHalf(MaxMagnitude(x, kBlock) / kIq4Top);
  EncodeTable(x, Inverse(HalfToFloat(b->d)), kIq4Values, b->q);
}

// The smallest power of two under which no value is above 6, the largest of the floats.
void Encode(const float* x, BlockMXFP4* b) {
  const float top = MaxMagnitude(x, kBlock);
  b->e = static_cast<uint8_t>(top == 0 ? 127 : std::clamp(127 + std::ceil(std::log2(top / 6)), 2.0f, 254.0f));
  EncodeTable(x, Inverse(HalfE8m0Scale(b->e)), kE2m1Doubled, b->q);
}

void Encode(const float* x, BlockIQ4_XS* b) {
  std::memset(b, 0, sizeof(*b));
  b->d = FloatToHalf(MaxMagnitude(x, kSuperBlock) / kIq4Top / 31);
  const float d = HalfToFloat(b->d);
  for (int s = 0; s < 8; ++s) {
    const int scale = Code(MaxMagnitude(x + kBlock * s, kBlock) / kIq4Top, Inverse(d), 0, 31);
    b->scales_low[s / 2] |= static_cast<uint8_t>(((scale + 32) & 15) << (s % 2 * 4));
    b->scales_high |= static_cast<uint16_t>(((scale + 32) >> 4) << (2 * s));
    EncodeTable(x + kBlock * s, Inverse(d * static_cast<float>(scale)), kIq4Values, b->q + 16 * s);
  }
}

void Encode(const float* x, BlockQ6_K* b) {
  std::memset(b, 0, sizeof(*b));
  b->d = FloatToHalf(MaxMagnitude(x, kSuperBlock) / 31 / 127);
  const float d = HalfToFloat(b->d);
  for (int g = 0; g < 16; ++g) {
    b->scales[g] = static_cast<int8_t>(Code(MaxMagnitude(x + 16 * g, 16) / 31, Inverse(d), 0, 127));
    const float inverse = Inverse(d * static_cast<float>(b->scales[g]));
    for (int e = 16 * g; e < 16 * g + 16; ++e) {
      const int code = Code(x[e], inverse, 32, 63);
      const int half = e / 128, lane = e % 32, quarter = (e % 128) / 32;
      b->low[half * 64 + (quarter % 2) * 32 + lane] |= static_cast<uint8_t>((code & 15) << (quarter < 2 ? 0 : 4));
      b->high[half * 32 + lane] |= static_cast<uint8_t>((code >> 4) << (2 * quarter));
    }
  }
}

template <typename Block, int kElements>
void EncodeBlocks(std::span<const float> values, std::byte* row) {
  Block block;
  for (size_t i = 0; i < values.size(); i += kElements, row += sizeof(Block)) {
    Encode(values.data() + i, &block);
    std::memcpy(row, &block, sizeof(Block));
  }
}

template <uint16_t (*kConvert)(float)>
void EncodeHalves(std::span<const float> values, std::byte* row) {
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t v = kConvert(values[i]);
    std::memcpy(row + 2 * i, &v, sizeof(v));
  }
}

}  // namespace

void EncodeRow(DType dtype, std::span<const float> values, std::byte* row) {
  CONCLAVE_CHECK(HasRowsOf(dtype, static_cast<int64_t>(values.size())));
  switch (dtype) {
    case DType::kF32:
      if (!values.empty()) std::memcpy(row, values.data(), values.size_bytes());
      return;
    case DType::kF16:
      return EncodeHalves<FloatToHalf>(values, row);
    case DType::kBF16:
      return EncodeHalves<FloatToBfloat16>(values, row);
    case DType::kQ4_0:
      return EncodeBlocks<BlockQ4_0, kBlock>(values, row);
    case DType::kQ4_1:
      return EncodeBlocks<BlockQ4_1, kBlock>(values, row);
    case DType::kQ5_0:
      return EncodeBlocks<BlockQ5_0, kBlock>(values, row);
    case DType::kQ5_1:
      return EncodeBlocks<BlockQ5_1, kBlock>(values, row);
    case DType::kQ8_0:
      return EncodeBlocks<BlockQ8_0, kBlock>(values, row);
    case DType::kQ2_K:
      return EncodeBlocks<BlockQ2_K, kSuperBlock>(values, row);
    case DType::kQ3_K:
      return EncodeBlocks<BlockQ3_K, kSuperBlock>(values, row);
    case DType::kQ4_K:
      return EncodeBlocks<BlockQ4_K, kSuperBlock>(values, row);
    case DType::kQ5_K:
      return EncodeBlocks<BlockQ5_K, kSuperBlock>(values, row);
    case DType::kQ6_K:
      return EncodeBlocks<BlockQ6_K, kSuperBlock>(values, row);
    case DType::kIQ4_NL:
      return EncodeBlocks<BlockIQ4_NL, kBlock>(values, row);
    case DType::kIQ4_XS:
      return EncodeBlocks<BlockIQ4_XS, kSuperBlock>(values, row);
    case DType::kMXFP4:
      return EncodeBlocks<BlockMXFP4, kBlock>(values, row);
    default:
      CONCLAVE_CHECK_MSG(IsGroupFormat(dtype), "EncodeRow: no encoder for this format");
      EncodeGroups(dtype, values, row);
  }
}

}  // namespace conclave::engine::quant
