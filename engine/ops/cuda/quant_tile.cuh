// SPDX-License-Identifier: Apache-2.0
// Tiles of block formats as operands of the matrix units: exact bf16 codes, each block's scale applied to the block's
// f32 sum.
#pragma once

#include "engine/ops/cuda/device.cuh"

namespace conclave::engine::cuda {

struct QuantArgs {
  float* y;
  int64_t y_stride;
  const uint16_t* x;
  int64_t x_stride;
  const uint8_t* w;
  PackedShape shape;
  int rows, m;
  int split;  // warps that share row tiles, each with its part of the column tiles
  bool add;
};

// d times byte `index` of `word`, exact for any half d: the byte is put below the ones of 2^23 instead of converted.
__device__ inline float TimesByte(float d, uint32_t word, int index) {
  return __fmaf_rn(__uint_as_float(__byte_perm(word, 0x4b000000u, 0x7550 + index)), d, -8388608.0f * d);
}

// What a lane holds of one tile.
template <int kBits, ScaleKind kScale>
struct Tile {
  static constexpr bool kHasSuper = kScale == ScaleKind::kSuper || kScale == ScaleKind::kSuper6;
  uint4 codes[kBits / 4];
  uint32_t scales[kScale == ScaleKind::kDM ? 4 : 2];
  uint32_t super[kScale == ScaleKind::kSuper ? 2 : 1];

  static constexpr int kCodeBytes = kTileRows * kTileColumns * kBits / 8;
  static constexpr int kScaleBytes = kScale == ScaleKind::kDM ? 128 : 64;
  static constexpr int kSuperBytes = kScale == ScaleKind::kSuper ? 64 : 32;

  // codes, scales: this lane's part of the tile; supers: its part of the row tile's first.
  __device__ void Load(const uint8_t* codes_at, const uint8_t* scales_at, const uint8_t* supers, int column_tile) {
#pragma unroll
    for (int i = 0; i < kBits / 4; ++i) codes[i] = LoadStreaming(codes_at + i * 512);
    if constexpr (kScale == ScaleKind::kDM) {
      const uint4 v = LoadStreaming(scales_at);
      scales[0] = v.x, scales[1] = v.y, scales[2] = v.z, scales[3] = v.w;
    } else {
      const uint2 v = LoadStreaming8(scales_at);
      scales[0] = v.x, scales[1] = v.y;
    }
    if constexpr (kHasSuper) {
      const auto* words = reinterpret_cast<const uint32_t*>(supers + column_tile / 4 * kSuperBytes);
      super[0] = __ldg(words);
      if constexpr (kScale == ScaleKind::kSuper) super[1] = __ldg(words + 1);
    }
  }

  // Scale and min of row g + 8 * `high` in group `i`: 2 groups of 32, or 4 of 16 (kSuper6).
  __device__ ScaleMin Scale(int high, int i) const {
    if constexpr (kScale == ScaleKind::kD) {
      return {HalfBits(static_cast<uint16_t>(scales[high] >> (16 * i))), 0.0f};
    } else if constexpr (kScale == ScaleKind::kDM) {
      const float2 dm = __half22float2(reinterpret_cast<const __half2&>(scales[2 * high + i]));
      return {dm.x, dm.y};
    } else if constexpr (kScale == ScaleKind::kSuper) {
      const float2 dm = __half22float2(reinterpret_cast<const __half2&>(super[high]));
      return {TimesByte(dm.x, scales[high], 2 * i), -TimesByte(dm.y, scales[high], 2 * i + 1)};
    } else {
      const float d = HalfBits(static_cast<uint16_t>(super[0] >> (16 * high)));
      const uint32_t shifted = scales[high] ^ 0x80808080u;  // bytes plus 128, unsigned
      return {d * (__uint_as_float(__byte_perm(shifted, 0x4b000000u, 0x7550 + i)) - 8388736.0f), 0.0f};
    }
  }

  // 4-bit codes of row g + 8 * `high` in group of 32 `i`.
  __device__ uint32_t Word(int high, int i) const {
    return high == 0 ? (i == 0 ? codes[0].x : codes[0].y) : (i == 0 ? codes[0].z : codes[0].w);
  }
  // Columns 2 j, 2 j + 1 of a word as bf16, each stored code plus kRawOffset.
  static constexpr float kRawOffset = 128.0f;
  __device__ static uint32_t Raw(uint32_t word, int j) {
    uint32_t pair;  // (word >> 4 j & 0x000f000f) | 0x43004300, which is 128 and the code, in one instruction
    asm("lop3.b32 %0, %1, 0x000f000f, %2, 0xea;" : "=r"(pair) : "r"(word >> (4 * j)), "r"(0x43004300u));
    return pair;
  }

  // Codes of row g + 8 * `high` in group of 32 `i`: 8 columns as four bf16 pairs.
  template <int kBias>
  __device__ void Codes(int high, int i, uint32_t (&pairs)[4]) const {
    if constexpr (kBits == 4) {
      const uint32_t word = Word(high, i);
      const __nv_bfloat162 offset = __float2bfloat162_rn(kRawOffset + kBias);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t bits = Raw(word, j);
        const __nv_bfloat162 v = __hsub2(reinterpret_cast<const __nv_bfloat162&>(bits), offset);
        pairs[j] = reinterpret_cast<const uint32_t&>(v);
      }
    } else {
      const uint4 v = codes[i];
      const uint32_t words[2] = {high == 0 ? v.x : v.z, high == 0 ? v.y : v.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t word = words[j / 2];
        const float low = __uint_as_float(__byte_perm(word, 0x4b000000u, j % 2 == 0 ? 0x7550 : 0x7552)) - 8388736.0f;
        const float top = __uint_as_float(__byte_perm(word, 0x4b000000u, j % 2 == 0 ? 0x7551 : 0x7553)) - 8388736.0f;
        pairs[j] = PackBf162(low, top);
      }
    }
  }
};

// Walks over column tiles of one row tile, `step` apart.
template <int kBits, ScaleKind kScale>
struct TileCursor {
  using TileOf = Tile<kBits, kScale>;
  const uint8_t *codes, *scales, *supers;
  int column_tile, step;

  __device__ TileCursor(const QuantArgs& a, int64_t row_tile, int first, int step_in, int lane)
      : column_tile(first), step(step_in) {
    const int64_t tile = row_tile * a.shape.column_tiles + first;
    codes = a.w + tile * TileOf::kCodeBytes + lane * 16;
    scales = a.w + a.shape.scales_at + tile * TileOf::kScaleBytes + lane / 4 * (TileOf::kScaleBytes / 8);
    supers = a.w + a.shape.supers_at + row_tile * ((a.shape.column_tiles + 3) / 4) * TileOf::kSuperBytes +
             lane / 4 * (TileOf::kSuperBytes / 8);
  }
  // The tile it stands at, if that is before `end`; moves on.
  __device__ void Next(int end, TileOf& into) {
    if (column_tile < end) into.Load(codes, scales, supers, column_tile);
    codes += step * TileOf::kCodeBytes;
    scales += step * TileOf::kScaleBytes;
    column_tile += step;
  }
};

// sums += this lane's part of (16 rows) x (64 columns) times 8 tokens. b: [group of 32].
template <int kBits, ScaleKind kScale, int kBias>
__device__ void MultiplyTile(const Tile<kBits, kScale>& tile, const uint4 (&b)[2], const float (&x_sums)[2][4],
                             float (&sums)[4]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    uint32_t low[4], high[4];
    tile.template Codes<kBias>(0, i, low);
    tile.template Codes<kBias>(1, i, high);
    if constexpr (kScale == ScaleKind::kSuper6) {
      // Lanes t < 2 hold the group's first 16 columns: two products, each with the other half's activations zero.
      const bool first = threadIdx.x % 4 < 2;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const bool mine = first == (half == 0);
        float c[4] = {};
        MmaBf16(c, low[0], high[0], low[1], high[1], mine ? b[i].x : 0, mine ? b[i].y : 0);
        MmaBf16(c, low[2], high[2], low[3], high[3], mine ? b[i].z : 0, mine ? b[i].w : 0);
        const float s0 = tile.Scale(0, 2 * i + half).scale, s1 = tile.Scale(1, 2 * i + half).scale;
        sums[0] += s0 * c[0], sums[1] += s0 * c[1], sums[2] += s1 * c[2], sums[3] += s1 * c[3];
      }
    } else {
      float c[4] = {};
      MmaBf16(c, low[0], high[0], low[1], high[1], b[i].x, b[i].y);
      MmaBf16(c, low[2], high[2], low[3], high[3], b[i].z, b[i].w);
      const ScaleMin s0 = tile.Scale(0, i), s1 = tile.Scale(1, i);
      sums[0] += s0.scale * c[0], sums[1] += s0.scale * c[1], sums[2] += s1.scale * c[2], sums[3] += s1.scale * c[3];
      if constexpr (kScale != ScaleKind::kD) {
        sums[0] += s0.min * x_sums[i][0], sums[1] += s0.min * x_sums[i][1];
        sums[2] += s1.min * x_sums[i][2], sums[3] += s1.min * x_sums[i][3];
      }
    }
  }
}

// The sums of a group's activations, where the format has mins: the product with ones.
__device__ inline void SumActivations(const uint4& b, float (&sums)[4]) {
  constexpr uint32_t kOnes = 0x3f803f80u;
  MmaBf16Fresh(sums, kOnes, kOnes, kOnes, kOnes, b.x, b.y);
  MmaBf16(sums, kOnes, kOnes, kOnes, kOnes, b.z, b.w);
}

// Calls start<bits, scale, bias> for a format.
template <typename Start>
void ForFormat(const PackedFormat& format, Start start) {
  const bool four = format.code_bits == 4;
  switch (format.scale) {
    case ScaleKind::kD:
      return four ? start.template operator()<4, ScaleKind::kD, 8>() : start.template operator()<8, ScaleKind::kD, 0>();
    case ScaleKind::kDM:
      return four ? start.template operator()<4, ScaleKind::kDM, 0>()
                  : start.template operator()<8, ScaleKind::kDM, 0>();
    case ScaleKind::kSuper:
      return four ? start.template operator()<4, ScaleKind::kSuper, 0>()
                  : start.template operator()<8, ScaleKind::kSuper, 0>();
    case ScaleKind::kSuper6:
      return start.template operator()<8, ScaleKind::kSuper6, 0>();
  }
}

}  // namespace conclave::engine::cuda
