// SPDX-License-Identifier: Apache-2.0
// How weights lie in device memory. Used by host and device alike, so that the layout is tested without a device.
//
// Plain formats (F32, F16, BF16) keep rows of `PlainStride(K)` elements, zero beyond K.
//
// Block formats are tiles of 16 rows by 64 columns in the order in which a warp's mma.m16n8k16 wants its A operand:
// lane l = 4 g + t of a tile holds rows g and g + 8, columns 8 t .. 8 t + 7 of each group of 32. Codes and scales lie
// in separate planes; the values are the file's bit for bit:
//   codes   [tile][uint4 x (1 for 4-bit, 2 for 8-bit codes)][32 lanes]
//   scales  [tile][8 g][.. of rows g and g + 8]
//   supers  [tile of 256 columns][8 g][2 rows]   K-quants: d, or d and dmin
// 4-bit formats keep 4-bit codes; Q5_0, Q5_1, Q5_K and Q6_K are widened to 8-bit codes, their scales are not.
#pragma once

#include <cstdint>

#include "engine/tensor/dtype.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define CONCLAVE_HD __host__ __device__ inline
#else
#include "engine/quant/half.h"
#define CONCLAVE_HD inline
#endif

namespace conclave::engine::cuda {

inline constexpr int kTileRows = 16;
inline constexpr int kTileColumns = 64;
inline constexpr int kSuperColumns = 256;
inline constexpr int kPlainStrideElements = 8;  // rows of plain formats begin 16 bytes apart at least

enum class ScaleKind : uint8_t {
  kD,      // half d per 32 columns
  kDM,     // half d, half m per 32
  kSuper,  // byte scale, byte min per 32; half d, half dmin per 256
  kSuper6  // signed byte scale per 16; half d per 256
};

// Code of a row's element = what the file's formula multiplies by the scale; stored plus `bias`.
struct PackedFormat {
  int code_bits;  // 4 or 8; 0: a plain format
  ScaleKind scale;
  int bias;
};

CONCLAVE_HD PackedFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {4, ScaleKind::kD, 8};
    case DType::kQ4_1:
      return {4, ScaleKind::kDM, 0};
    case DType::kQ4_K:
      return {4, ScaleKind::kSuper, 0};
    case DType::kQ5_0:
    case DType::kQ8_0:
      return {8, ScaleKind::kD, 128};
    case DType::kQ5_1:
      return {8, ScaleKind::kDM, 128};
    case DType::kQ5_K:
      return {8, ScaleKind::kSuper, 128};
    case DType::kQ6_K:
      return {8, ScaleKind::kSuper6, 128};
    default:
      return {0, ScaleKind::kD, 0};
  }
}

// Plain formats are kept as they are, block formats as FormatOf says or not at all.
inline bool HasLayout(DType dtype) { return Traits(dtype).block_elements == 1 || FormatOf(dtype).code_bits != 0; }

CONCLAVE_HD int64_t RoundUpTo(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
CONCLAVE_HD int64_t PlainStride(int64_t columns) { return RoundUpTo(columns, kPlainStrideElements); }

// Byte offsets of the planes of one packed matrix.
struct PackedShape {
  PackedFormat format;
  int64_t row_tiles, column_tiles;
  int64_t scales_at, supers_at, bytes;
};

CONCLAVE_HD int64_t CodeTileBytes(PackedFormat format) {
  return int64_t{kTileRows} * kTileColumns * format.code_bits / 8;
}
CONCLAVE_HD int64_t ScaleTileBytes(PackedFormat format) { return format.scale == ScaleKind::kDM ? 128 : 64; }
CONCLAVE_HD int64_t SuperTileBytes(PackedFormat format) {
  return format.scale == ScaleKind::kSuper ? 64 : format.scale == ScaleKind::kSuper6 ? 32 : 0;
}

CONCLAVE_HD PackedShape ShapeOf(DType dtype, int64_t rows, int64_t columns) {
  PackedShape shape = {};
  shape.format = FormatOf(dtype);
  shape.row_tiles = (rows + kTileRows - 1) / kTileRows;
  shape.column_tiles = (columns + kTileColumns - 1) / kTileColumns;
  const int64_t tiles = shape.row_tiles * shape.column_tiles;
  shape.scales_at = tiles * CodeTileBytes(shape.format);
  shape.supers_at = shape.scales_at + tiles * ScaleTileBytes(shape.format);
  const int64_t supers = shape.row_tiles * ((columns + kSuperColumns - 1) / kSuperColumns);
  shape.bytes = shape.supers_at + supers * SuperTileBytes(shape.format);
  return shape;
}

// ---- Within a tile. r: 0..15, k: 0..63.

CONCLAVE_HD int LaneOf(int r, int k) { return (r % 8) * 4 + (k % 32) / 8; }
// 4-bit: word of the lane's uint4, and nibble of the word. Pairs (2 i, 2 i + 1) of the 8 columns are nibbles i, i + 4.
CONCLAVE_HD int NibbleWord(int r, int k) { return (r / 8) * 2 + k / 32; }
CONCLAVE_HD int Nibble(int k) { return (k % 8) / 2 + (k % 2) * 4; }
// 8-bit: byte of the tile.
CONCLAVE_HD int ByteOf(int r, int k) { return (k / 32) * 512 + LaneOf(r, k) * 16 + (r / 8) * 8 + k % 8; }

// Plain 16-bit formats of stacks are in the same order, without scales: byte of element (n, k) of a matrix.
//   [tile][2 groups of 32 columns][rows g, g + 8][32 lanes][8 columns]
inline constexpr int64_t kPlainTileBytes = int64_t{kTileRows} * kTileColumns * 2;
CONCLAVE_HD int64_t PlainTileByte(int64_t column_tiles, int64_t n, int64_t k) {
  const int r = static_cast<int>(n % kTileRows), c = static_cast<int>(k % kTileColumns);
  return (n / kTileRows * column_tiles + k / kTileColumns) * kPlainTileBytes + (c / 32 * 2 + r / 8) * 512 +
         LaneOf(r, c) * 16 + c % 8 * 2;
}

// Index of the scale of (r, k): in halves (kD), pairs of halves (kDM), pairs of bytes (kSuper), bytes (kSuper6).
CONCLAVE_HD int ScaleIndex(ScaleKind kind, int r, int k) {
  if (kind == ScaleKind::kSuper6) return (r % 8) * 8 + (r / 8) * 4 + k / 16;
  return (r % 8) * 4 + (r / 8) * 2 + k / 32;
}
CONCLAVE_HD int SuperIndex(int r) { return (r % 8) * 2 + r / 8; }

// ---- Reading the file's blocks. `row`: the bytes of a row, any alignment.

CONCLAVE_HD uint16_t Load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }

// A simple block's nibble of element j (0..31).
CONCLAVE_HD int SimpleNibble(const uint8_t* q, int j) { return j < 16 ? q[j] & 15 : q[j - 16] >> 4; }
CONCLAVE_HD int HighBit(const uint8_t* high, int j) { return ((high[j / 8] >> (j % 8)) & 1) << 4; }
// A K-quant's nibble of element e (0..255).
CONCLAVE_HD int SuperNibble(const uint8_t* q, int e) {
  const uint8_t byte = q[e / 64 * 32 + e % 32];
  return (e / 32) % 2 == 0 ? byte & 15 : byte >> 4;
}

// The code of element k of a row in `dtype`.
CONCLAVE_HD int FileCode(DType dtype, const uint8_t* row, int64_t k) {
  const int j = static_cast<int>(k % 32), e = static_cast<int>(k % 256);
  const int64_t b = k / 32, s = k / 256;
  switch (dtype) {
    case DType::kQ4_0:
      return SimpleNibble(row + b * 18 + 2, j) - 8;
    case DType::kQ4_1:
      return SimpleNibble(row + b * 20 + 4, j);
    case DType::kQ5_0:
      return (SimpleNibble(row + b * 22 + 6, j) | HighBit(row + b * 22 + 2, j)) - 16;
    case DType::kQ5_1:
      return SimpleNibble(row + b * 24 + 8, j) | HighBit(row + b * 24 + 4, j);
    case DType::kQ8_0:
      return static_cast<int8_t>(row[b * 34 + 2 + j]);
    case DType::kQ4_K:
      return SuperNibble(row + s * 144 + 16, e);
    case DType::kQ5_K:
      return SuperNibble(row + s * 176 + 48, e) | (((row[s * 176 + 16 + e % 32] >> (e / 32)) & 1) << 4);
    case DType::kQ6_K: {
      const uint8_t* block = row + s * 210;
      const int half = e / 128, lane = e % 32, quarter = (e % 128) / 32;
      const uint8_t low = block[half * 64 + (quarter % 2) * 32 + lane];
      const int high = (block[128 + half * 32 + lane] >> (2 * quarter)) & 3;
      return ((quarter < 2 ? low & 15 : low >> 4) | (high << 4)) - 32;
    }
    default:
      return 0;
  }
}

// Bytes 0..1: half d, 2..3: half m (kD has none) of the block of 32 that holds k; of a K-quant: d, dmin of the 256.
CONCLAVE_HD uint32_t FileHalves(DType dtype, const uint8_t* row, int64_t k) {
  const int64_t b = k / 32, s = k / 256;
  const auto two = [](const uint8_t* p) { return Load16(p) | (static_cast<uint32_t>(Load16(p + 2)) << 16); };
  switch (dtype) {
    case DType::kQ4_0:
      return Load16(row + b * 18);
    case DType::kQ4_1:
      return two(row + b * 20);
    case DType::kQ5_0:
      return Load16(row + b * 22);
    case DType::kQ5_1:
      return two(row + b * 24);
    case DType::kQ8_0:
      return Load16(row + b * 34);
    case DType::kQ4_K:
      return two(row + s * 144);
    case DType::kQ5_K:
      return two(row + s * 176);
    case DType::kQ6_K:
      return Load16(row + s * 210 + 208);
    default:
      return 0;
  }
}

// K-quants: low byte the scale, high byte the min of the sub-block that holds k.
CONCLAVE_HD uint16_t FileSubScale(DType dtype, const uint8_t* row, int64_t k) {
  const int e = static_cast<int>(k % 256), j = e / 32;
  if (dtype == DType::kQ6_K) return row[k / 256 * 210 + 192 + e / 16];
  const uint8_t* scales = row + k / 256 * (dtype == DType::kQ4_K ? 144 : 176) + 4;
  if (j < 4) return static_cast<uint16_t>((scales[j] & 63) | ((scales[j + 4] & 63) << 8));
  const int scale = (scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4);
  const int min = (scales[j + 4] >> 4) | ((scales[j] >> 6) << 4);
  return static_cast<uint16_t>(scale | (min << 8));
}

// ---- Writing and reading a packed matrix, an element at a time. Memory was zeroed before.

CONCLAVE_HD float HalfBits(uint16_t bits) {
#ifdef __CUDACC__
  return __half2float(__ushort_as_half(bits));
#else
  return quant::HalfToFloat(bits);
#endif
}

// The 8 columns k .. k + 7 (k a multiple of 8) of row n, as words of the code plane; the scales that begin there.
CONCLAVE_HD void PackEight(DType dtype, const PackedShape& shape, const uint8_t* file_row, int64_t n, int64_t k,
                           uint8_t* packed) {
  const PackedFormat format = shape.format;
  const int r = static_cast<int>(n % kTileRows), c = static_cast<int>(k % kTileColumns);
  const int64_t tile = n / kTileRows * shape.column_tiles + k / kTileColumns;
  uint8_t* codes = packed + tile * CodeTileBytes(format);
  if (format.code_bits == 4) {
    uint32_t word = 0;
    for (int j = 0; j < 8; ++j) {
      word |= static_cast<uint32_t>(FileCode(dtype, file_row, k + j) + format.bias) << (4 * Nibble(j));
    }
    reinterpret_cast<uint32_t*>(codes)[LaneOf(r, c) * 4 + NibbleWord(r, c)] = word;
  } else {
    for (int j = 0; j < 8; ++j) {
      codes[ByteOf(r, c + j)] = static_cast<uint8_t>(FileCode(dtype, file_row, k + j) + format.bias);
    }
  }
  uint8_t* scales = packed + shape.scales_at + tile * ScaleTileBytes(format);
  const int index = ScaleIndex(format.scale, r, c);
  const int64_t super_tile = n / kTileRows * ((shape.column_tiles + 3) / 4) + k / kSuperColumns;
  uint8_t* supers = packed + shape.supers_at + super_tile * SuperTileBytes(format);
  switch (format.scale) {
    case ScaleKind::kD:
      if (c % 32 == 0)
        reinterpret_cast<uint16_t*>(scales)[index] = static_cast<uint16_t>(FileHalves(dtype, file_row, k));
      break;
    case ScaleKind::kDM:
      if (c % 32 == 0) reinterpret_cast<uint32_t*>(scales)[index] = FileHalves(dtype, file_row, k);
      break;
    case ScaleKind::kSuper:
      if (c % 32 == 0) reinterpret_cast<uint16_t*>(scales)[index] = FileSubScale(dtype, file_row, k);
      if (k % 256 == 0) reinterpret_cast<uint32_t*>(supers)[SuperIndex(r)] = FileHalves(dtype, file_row, k);
      break;
    case ScaleKind::kSuper6:
      if (c % 16 == 0) scales[index] = static_cast<uint8_t>(FileSubScale(dtype, file_row, k));
      if (k % 256 == 0) {
        reinterpret_cast<uint16_t*>(supers)[SuperIndex(r)] = static_cast<uint16_t>(FileHalves(dtype, file_row, k));
      }
      break;
  }
}

struct ScaleMin {
  float scale, min;  // value = code * scale + min
};

CONCLAVE_HD ScaleMin PackedScale(const PackedShape& shape, const uint8_t* packed, int64_t n, int64_t k) {
  const PackedFormat format = shape.format;
  const int r = static_cast<int>(n % kTileRows), c = static_cast<int>(k % kTileColumns);
  const int64_t tile = n / kTileRows * shape.column_tiles + k / kTileColumns;
  const uint8_t* scales = packed + shape.scales_at + tile * ScaleTileBytes(format);
  const int index = ScaleIndex(format.scale, r, c);
  const int64_t super_tile = n / kTileRows * ((shape.column_tiles + 3) / 4) + k / kSuperColumns;
  const uint8_t* supers = packed + shape.supers_at + super_tile * SuperTileBytes(format);
  switch (format.scale) {
    case ScaleKind::kD:
      return {HalfBits(Load16(scales + 2 * index)), 0.0f};
    case ScaleKind::kDM:
      return {HalfBits(Load16(scales + 4 * index)), HalfBits(Load16(scales + 4 * index + 2))};
    case ScaleKind::kSuper: {
      const uint8_t* super = supers + 4 * SuperIndex(r);
      return {HalfBits(Load16(super)) * static_cast<float>(scales[2 * index]),
              -(HalfBits(Load16(super + 2)) * static_cast<float>(scales[2 * index + 1]))};
    }
    case ScaleKind::kSuper6:
      return {HalfBits(Load16(supers + 2 * SuperIndex(r))) * static_cast<float>(static_cast<int8_t>(scales[index])),
              0.0f};
  }
  return {0.0f, 0.0f};
}

CONCLAVE_HD int PackedCode(const PackedShape& shape, const uint8_t* packed, int64_t n, int64_t k) {
  const PackedFormat format = shape.format;
  const int r = static_cast<int>(n % kTileRows), c = static_cast<int>(k % kTileColumns);
  const uint8_t* codes = packed + (n / kTileRows * shape.column_tiles + k / kTileColumns) * CodeTileBytes(format);
  if (format.code_bits == 8) return codes[ByteOf(r, c)] - format.bias;
  const uint32_t word = reinterpret_cast<const uint32_t*>(codes)[LaneOf(r, c) * 4 + NibbleWord(r, c)];
  return static_cast<int>((word >> (4 * Nibble(c))) & 15) - format.bias;
}

// Element (n, k), the file's value bit for bit.
CONCLAVE_HD float PackedValue(const PackedShape& shape, const uint8_t* packed, int64_t n, int64_t k) {
  const ScaleMin s = PackedScale(shape, packed, n, k);
  return static_cast<float>(PackedCode(shape, packed, n, k)) * s.scale + s.min;
}

}  // namespace conclave::engine::cuda
