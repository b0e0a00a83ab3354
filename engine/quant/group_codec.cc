// SPDX-License-Identifier: Apache-2.0
#include "engine/quant/group_codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/check.h"
#include "engine/quant/group_blocks.h"

namespace conclave::engine::quant {
namespace {

template <int kSize>
int Code(const BlockInt4<kSize>& b, size_t e) {
  const uint8_t byte = b.q[e / 32 * 16 + e % 16];
  return e % 32 < 16 ? byte & 15 : byte >> 4;
}
template <int kSize>
int Code(const BlockInt8<kSize>& b, size_t e) {
  return b.q[e];
}

template <int kSize>
void SetCode(BlockInt4<kSize>* b, size_t e, int code) {
  b->q[e / 32 * 16 + e % 16] |= static_cast<uint8_t>(code << (e % 32 < 16 ? 0 : 4));
}
template <int kSize>
void SetCode(BlockInt8<kSize>* b, size_t e, int code) {
  b->q[e] = static_cast<uint8_t>(code);
}

// From the smallest value to the largest, zero among them.
template <typename Block>
void EncodeBlock(std::span<const float> x, Block* b) {
  constexpr int kTop = sizeof(b->q) == Block::kElements ? 255 : 15;
  const float low = std::min(0.0f, *std::min_element(x.begin(), x.end()));
  const float high = std::max(0.0f, *std::max_element(x.begin(), x.end()));
  const float scale = HalfToFloat(FloatToHalf((high - low) / kTop));
  const float inverse = scale != 0 ? 1 / scale : 0;
  const int zero = std::clamp(static_cast<int>(std::lrint(-low * inverse)), 0, kTop);
  b->scale = MakeGroupScale(scale, zero);
  for (size_t e = 0; e < x.size(); ++e) {
    SetCode(b, e, std::clamp(static_cast<int>(std::lrint(x[e] * inverse)) + zero, 0, kTop));
  }
}

void EncodeBlock(std::span<const float> x, BlockFp8* b) {
  float top = 0;
  for (const float v : x) top = std::max(top, std::fabs(v));
  b->scale = top / 448;
  const float inverse = top > 0 ? 448 / top : 0;
  for (size_t e = 0; e < x.size(); ++e) b->q[e] = FloatToFp8(x[e] * inverse);
}

template <typename Block>
void DecodeBlock(const Block& b, std::span<float> y) {
  const float scale = b.scale.scale();
  for (size_t e = 0; e < y.size(); ++e) y[e] = static_cast<float>(Code(b, e) - b.scale.zero()) * scale;
}

void DecodeBlock(const BlockFp8& b, std::span<float> y) {
  for (size_t e = 0; e < y.size(); ++e) y[e] = Fp8ToFloat(b.q[e]) * b.scale;
}

// A cut block has as many bytes fewer as elements.
template <typename Block>
size_t BytesOf(size_t elements) {
  return sizeof(Block) - (Block::kElements - elements);
}

template <typename Block>
void DecodeBlocks(const std::byte* row, std::span<float> out) {
  while (!out.empty()) {
    const size_t count = std::min<size_t>(out.size(), Block::kElements);
    Block block;
    std::memcpy(&block, row, BytesOf<Block>(count));
    DecodeBlock(block, out.first(count));
    out = out.subspan(count);
    row += sizeof(Block);
  }
}

template <typename Block>
void EncodeBlocks(std::span<const float> values, std::byte* row) {
  while (!values.empty()) {
    const size_t count = std::min<size_t>(values.size(), Block::kElements);
    Block block = {};
    EncodeBlock(values.first(count), &block);
    std::memcpy(row, &block, BytesOf<Block>(count));
    values = values.subspan(count);
    row += sizeof(Block);
  }
}

struct Codec {
  void (*decode)(const std::byte*, std::span<float>);
  void (*encode)(std::span<const float>, std::byte*);
};
template <typename Block>
constexpr Codec kCodec = {DecodeBlocks<Block>, EncodeBlocks<Block>};

const Codec* Find(DType dtype) {
  switch (dtype) {
    case DType::kInt4_G32:
      return &kCodec<BlockInt4<32>>;
    case DType::kInt4_G64:
      return &kCodec<BlockInt4<64>>;
    case DType::kInt4_G128:
      return &kCodec<BlockInt4<128>>;
    case DType::kInt8_G32:
      return &kCodec<BlockInt8<32>>;
    case DType::kInt8_G128:
      return &kCodec<BlockInt8<128>>;
    case DType::kFp8_G128:
      return &kCodec<BlockFp8>;
    default:
      return nullptr;
  }
}

}  // namespace

uint8_t FloatToFp8(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7f;
  const float magnitude = std::min(std::fabs(value), 448.0f);
  // Of the leading bit; below 2^-6 steps stay those of 2^-6.
  const int exponent = magnitude < 0x1p-6f ? -6 : std::ilogb(magnitude);
  // Steps of an eighth of it: 8..15 from the leading bit on, 16 where rounding reached the next one.
  const int steps = static_cast<int>(std::lrint(std::ldexp(magnitude, 3 - exponent)));
  return static_cast<uint8_t>(sign | (((exponent + 6) << 3) + steps));
}

bool IsGroupFormat(DType dtype) { return Find(dtype) != nullptr; }

void DecodeGroups(DType dtype, const std::byte* row, std::span<float> out) {
  const Codec* codec = Find(dtype);
  CONCLAVE_CHECK(codec != nullptr);
  codec->decode(row, out);
}

void EncodeGroups(DType dtype, std::span<const float> values, std::byte* row) {
  const Codec* codec = Find(dtype);
  CONCLAVE_CHECK(codec != nullptr);
  codec->encode(values, row);
}

}  // namespace conclave::engine::quant
