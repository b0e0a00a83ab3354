// SPDX-License-Identifier: Apache-2.0
// What the kernels of quant_gemm.cu and quant_gemm_hopper.cu share.
#pragma once

#include "engine/ops/cuda/quant_stage.cuh"

namespace conclave::engine::cuda {

inline constexpr int kTokens = 8;           // columns of an mma
inline constexpr int kGemmBlockTiles = 32;  // row tiles that a block may hold

// Codes of row g + 8 * `high` in group of 32 `i` times their scale, plus their min: 8 columns as four bf16 pairs.
template <int kBits, ScaleKind kScale, int kBias>
__device__ void Values(const Tile<kBits, kScale>& tile, int high, int i, uint32_t (&pairs)[4]) {
  constexpr bool kHasMin = kScale == ScaleKind::kDM || kScale == ScaleKind::kSuper;
  using TileOf = Tile<kBits, kScale>;
  if constexpr (kBits == 4) {
    // With a min, codes are counted from 8, where values are near zero: then little depends on the min's rounding.
    constexpr int kFrom = kHasMin ? 8 : kBias;
    const ScaleMin s = tile.Scale(high, i);
    const __nv_bfloat162 scale = __float2bfloat162_rn(s.scale);
    const __nv_bfloat162 min = __float2bfloat162_rn(s.min + kFrom * s.scale);
    const __nv_bfloat162 offset = __float2bfloat162_rn(TileOf::kRawOffset + kFrom);
    const uint32_t word = tile.Word(high, i);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t raw = TileOf::Raw(word, j);
      const __nv_bfloat162 code = __hsub2(reinterpret_cast<const __nv_bfloat162&>(raw), offset);
      const __nv_bfloat162 value = kHasMin ? __hfma2(code, scale, min) : __hmul2(code, scale);
      pairs[j] = reinterpret_cast<const uint32_t&>(value);
    }
  } else {
    const ScaleMin s = tile.Scale(high, kScale == ScaleKind::kSuper6 ? 2 * i + threadIdx.x % 4 / 2 : i);
    const uint4 v = tile.codes[i];
    const uint32_t words[2] = {high == 0 ? v.x : v.z, high == 0 ? v.y : v.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float values[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const uint32_t bits = __byte_perm(words[j / 2], 0x4b000000u, 0x7550 + j % 2 * 2 + e);
        values[e] = (__uint_as_float(bits) - 8388736.0f) * s.scale + s.min;
      }
      pairs[j] = PackBf162(values[0], values[1]);
    }
  }
}

// A row tile's sums of all tokens, to y or as partial results of the columns' `part`.
template <int kTokenTiles>
__device__ void StoreSums(const QuantArgs& a, float* partial, int part, int row_tile, int lane,
                          const float (&sums)[kTokenTiles][4]) {
  const int g = lane / 4, t = lane % 4;
  const bool whole = a.split == 1;
  float* out = whole ? a.y : partial + int64_t{part} * a.m * a.rows;
  const int64_t stride = whole ? a.y_stride : a.rows;
#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int token = n * kTokens + 2 * t + e % 2, row = row_tile * kTileRows + g + e / 2 * 8;
      if (token >= a.m || row >= a.rows) continue;
      float* at = out + token * stride + row;
      *at = whole && a.add ? *at + sums[n][e] : sums[n][e];
    }
  }
}

// The kernel for sm_90a, of a library of its own. grid: row tiles, parts of the columns; at most kGemmBlockTiles each.
void QuantGemmHopper(const Stream& s, const QuantArgs& a, const dim3& grid, float* partial);

}  // namespace conclave::engine::cuda
