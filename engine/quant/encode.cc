// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/check.h"
#include "engine/quant/blocks.h"
#include "engine/quant/codec.h"
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

template <typename Block, typename Store>
void EncodeScaledPairs(const float* x, int top, Block* b, Store store) {
  float scale[8], min[8];
  for (int s = 0; s < 8; ++s) {
    const auto [low, high] = std::minmax_element(x + 32 * s, x + 32 * s + 32);
    min[s] = std::max(0.0f, -*low);
    scale[s] = std::max(0.0f, *high + min[s]) / static_cast<float>(top);
  }
  b->d = FloatToHalf(*std::max_element(scale, scale + 8) / 63);
  b->dmin = FloatToHalf(*std::max_element(min, min + 8) / 63);
  const float d = HalfToFloat(b->d), dmin = HalfToFloat(b->dmin);
  uint8_t scale_codes[8], min_codes[8];
  for (int s = 0; s < 8; ++s) {
    scale_codes[s] = static_cast<uint8_t>(Code(scale[s], Inverse(d), 0, 63));
    min_codes[s] = static_cast<uint8_t>(Code(min[s], Inverse(dmin), 0, 63));
    const float inverse = Inverse(d * static_cast<float>(scale_codes[s]));
    for (int l = 0; l < 32; ++l) {
      store(s, l, Code(x[32 * s + l] + dmin * static_cast<float>(min_codes[s]), inverse, 0, top));
    }
  }
  PackScaleMins(scale_codes, min_codes, b->scales);
}

void Encode(const float* x, BlockQ4_K* b) {
  std::memset(b, 0, sizeof(*b));
  EncodeScaledPairs(
      x, 15, b, [b](int s, int l, int code) { b->q[(s / 2) * 32 + l] |= static_cast<uint8_t>(code << (4 * (s % 2))); });
}

void Encode(const float* x, BlockQ5_K* b) {
  std::memset(b, 0, sizeof(*b));
  EncodeScaledPairs(x, 31, b, [b](int s, int l, int code) {
    b->q[(s / 2) * 32 + l] |= static_cast<uint8_t>((code & 15) << (4 * (s % 2)));
    b->high[l] |= static_cast<uint8_t>((code >> 4) << s);
  });
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
  CONCLAVE_CHECK(values.size() % Traits(dtype).block_elements == 0);
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
    case DType::kQ4_K:
      return EncodeBlocks<BlockQ4_K, kSuperBlock>(values, row);
    case DType::kQ5_K:
      return EncodeBlocks<BlockQ5_K, kSuperBlock>(values, row);
    case DType::kQ6_K:
      return EncodeBlocks<BlockQ6_K, kSuperBlock>(values, row);
    default:
      CONCLAVE_CHECK_MSG(false, "EncodeRow: no encoder for this format");
  }
}

}  // namespace conclave::engine::quant
