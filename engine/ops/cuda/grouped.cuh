// SPDX-License-Identifier: Apache-2.0
// What the grouped products share: an item's pairs, and weights of every format as operands of the matrix units.
#pragma once

#include "engine/ops/cuda/grouped.h"
#include "engine/ops/cuda/quant_tile.cuh"

namespace conclave::engine::cuda {

// A block's pairs; matrix < 0: none.
struct Group {
  int matrix, first, count;
};

__device__ inline Group GroupOf(const Groups& groups, int item) {
  if (groups.how == Grouping::kDirect) return {groups.ids[item], item, 1};
  if (groups.how == Grouping::kHeads) {
    const int first = item / groups.matrices * groups.tile;
    return {item % groups.matrices, first, min(groups.tile, groups.tokens - first)};
  }
  if (item >= *groups.num_items) return {-1, 0, 0};
  const GroupItem found = groups.sorted_items[item];
  return {found.matrix, found.first, found.count};
}

__device__ inline int PairOf(const Groups& groups, const Group& group, int i) {
  if (groups.how == Grouping::kDirect || groups.how == Grouping::kRouted) return group.first;
  if (groups.how == Grouping::kHeads) return (group.first + i) * groups.matrices + group.matrix;
  return groups.order[group.first + i];
}

// y = g sigmoid(alpha g) (u + up_offset)
__device__ inline float Gated(float gate, float up, const GatedActivation& a) {
  const float g = fminf(gate, a.limit), u = fminf(fmaxf(up, -a.limit), a.limit);
  return g / (1.0f + expf(-a.alpha * g)) * (u + a.up_offset);
}

// Weights of block formats: Tile's interface over matrices of a stack.
template <int kBitsIn, ScaleKind kScaleIn, int kBias>
struct QuantWeights {
  static constexpr int kAhead = kBitsIn == 4 ? 4 : 2;
  static constexpr bool kHasMin = kScaleIn == ScaleKind::kDM || kScaleIn == ScaleKind::kSuper;
  using TileOf = Tile<kBitsIn, kScaleIn>;
  using Cursor = TileCursor<kBitsIn, kScaleIn>;

  __device__ static Cursor At(const StackPart& stack, int matrix, int64_t row_tile, int first, int step, int lane) {
    QuantArgs a = {};
    a.w = stack.part.data + matrix * stack.matrix_bytes;
    a.shape = stack.part.shape;
    return Cursor(a, row_tile, first, step, lane);
  }
  __device__ static void Multiply(const TileOf& tile, const uint4 (&b)[2], const float (&x_sums)[2][4],
                                  float (&sums)[4]) {
    MultiplyTile<kBitsIn, kScaleIn, kBias>(tile, b, x_sums, sums);
  }
  // Row g + 8 * `high`, this lane's 8 columns of group of 32 `i`, as bf16.
  __device__ static uint4 Values(const TileOf& tile, int high, int i) {
    uint32_t pairs[4];
    tile.template Codes<kBias>(high, i, pairs);
    const int scale_at = kScaleIn == ScaleKind::kSuper6 ? 2 * i + static_cast<int>(threadIdx.x % 4 / 2) : i;
    const ScaleMin s = tile.Scale(high, scale_at);
#pragma unroll
    for (uint32_t& pair : pairs) {
      const float low = __uint_as_float(pair << 16), top = __uint_as_float(pair & 0xffff0000u);
      pair = PackBf162(low * s.scale + s.min, top * s.scale + s.min);
    }
    return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
};

// Weights of plain 16-bit formats, in tiles. f16 is rounded to bf16.
template <bool kHalf>
struct PlainWeights {
  static constexpr int kAhead = 2;
  static constexpr bool kHasMin = false;
  struct TileOf {
    uint4 words[2][2];  // [row g, g + 8][group of 32 columns]: columns 8 t ..
  };
  struct Cursor {
    const uint8_t* at;  // this lane's piece of the tile
    int column_tile, step;

    __device__ void Next(int end, TileOf& into) {
      if (column_tile < end) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          into.words[0][i] = LoadStreaming(at + i * 1024);
          into.words[1][i] = LoadStreaming(at + i * 1024 + 512);
        }
      }
      at += step * kPlainTileBytes;
      column_tile += step;
    }
  };

  __device__ static Cursor At(const StackPart& stack, int matrix, int64_t row_tile, int first, int step, int lane) {
    const int64_t tile = row_tile * stack.part.shape.column_tiles + first;
    return {stack.part.data + matrix * stack.matrix_bytes + tile * kPlainTileBytes + lane * 16, first, step};
  }
  __device__ static uint4 Values(const TileOf& tile, int high, int i) {
    uint4 v = tile.words[high][i];
    if constexpr (kHalf) {
      uint32_t* words = &v.x;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 f = __half22float2(reinterpret_cast<const __half2&>(words[j]));
        words[j] = PackBf162(f.x, f.y);
      }
    }
    return v;
  }
  __device__ static void Multiply(const TileOf& tile, const uint4 (&b)[2], const float (&)[2][4], float (&sums)[4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint4 low = Values(tile, 0, i), high = Values(tile, 1, i);
      MmaBf16(sums, low.x, high.x, low.y, high.y, b[i].x, b[i].y);
      MmaBf16(sums, low.z, high.z, low.w, high.w, b[i].z, b[i].w);
    }
  }
};

// A piece of the sum over a token's slots. Vec: float or float4; `at`: in pieces.
template <typename Vec>
__device__ Vec Combined(const CombineArgs& a, int64_t token, int64_t at) {
  constexpr int kLanes = sizeof(Vec) / sizeof(float);
  const int64_t pieces = a.width / kLanes;
  Vec sum = {};
  float* sums = reinterpret_cast<float*>(&sum);
  if (a.add) sum = reinterpret_cast<const Vec*>(a.y)[token * pieces + at];
  constexpr int kAtOnce = 8;  // slots whose pieces are on their way together
  for (int64_t first = 0; first < a.slots; first += kAtOnce) {
    int experts[kAtOnce];
    float weights[kAtOnce];
    Vec values[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t pair = token * a.slots + first + i;
      experts[i] = first + i < a.slots ? a.ids[pair] : -1;
      weights[i] = experts[i] >= 0 ? a.weights[pair] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (experts[i] < 0) continue;
      values[i] = reinterpret_cast<const Vec*>(a.pairs)[(token * a.slots + first + i) * pieces + at];
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (experts[i] < 0) continue;
      const Vec bias = a.bias != nullptr ? reinterpret_cast<const Vec*>(a.bias)[experts[i] * pieces + at] : Vec{};
#pragma unroll
      for (int j = 0; j < kLanes; ++j) {
        sums[j] +=
            weights[i] * (reinterpret_cast<const float*>(&values[i])[j] + reinterpret_cast<const float*>(&bias)[j]);
      }
    }
  }
  return sum;
}

// Calls start<Weights>() for a part's format; not for F32.
template <typename Start>
void ForWeights(const WeightPart& part, Start start) {
  if (part.shape.format.code_bits != 0) {
    ForFormat(part.shape.format, [&]<int kBits, ScaleKind kScale, int kBias>() {
      start.template operator()<QuantWeights<kBits, kScale, kBias>>();
    });
  } else if (part.dtype == DType::kF16) {
    start.template operator()<PlainWeights<true>>();
  } else {
    start.template operator()<PlainWeights<false>>();
  }
}

}  // namespace conclave::engine::cuda
