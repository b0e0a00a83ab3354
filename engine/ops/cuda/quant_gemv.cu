// SPDX-License-Identifier: Apache-2.0
// Products of block formats with up to 8 rows of activations, on the matrix units: a warp reads tiles of weights in the
// order of their mma operand, makes exact bf16 codes of them, multiplies bf16 activations, and applies each block's
// scale to the block's f32 sum. Only the activations are rounded. Bound by memory.
#include "engine/ops/cuda/quant_tile.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kRowTiles = 2;  // per warp
constexpr int kTokens = 8;    // columns of an mma

template <int kBits, ScaleKind kScale, int kBias>
__global__ void __launch_bounds__(kThreads) QuantGemvKernel(QuantArgs a) {
  constexpr int kAhead = kBits == 4 ? 4 : 2;
  constexpr bool kHasMin = kScale == ScaleKind::kDM || kScale == ScaleKind::kSuper;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int part = warp % a.split;
  const int64_t first = (int64_t{blockIdx.x} * (kWarps / a.split) + warp / a.split) * kRowTiles;
  const int end = static_cast<int>(a.shape.column_tiles);
  Tile<kBits, kScale> ring[kAhead][kRowTiles];
  using Cursor = TileCursor<kBits, kScale>;
  Cursor cursors[kRowTiles] = {Cursor(a, min(first, a.shape.row_tiles - 1), part, a.split, lane),
                               Cursor(a, min(first + 1, a.shape.row_tiles - 1), part, a.split, lane)};
  static_assert(kRowTiles == 2);
  const auto load = [&](Tile<kBits, kScale>(&into)[kRowTiles]) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) cursors[r].Next(end, into[r]);
  };
#pragma unroll
  for (int u = 0; u < kAhead; ++u) load(ring[u]);
  AwaitPrevious();
  AllowNext();
  float sums[kRowTiles][4] = {};
  const uint16_t* x = a.x + g * a.x_stride + t * 8;
  for (int base = part; base < end; base += kAhead * a.split) {
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int column_tile = base + u * a.split;
      if (column_tile >= end) break;
      uint4 b[2];
      float x_sums[2][4] = {};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        b[i] =
            g < a.m ? *reinterpret_cast<const uint4*>(x + column_tile * kTileColumns + i * 32) : make_uint4(0, 0, 0, 0);
        if constexpr (kHasMin) {
          SumActivations(b[i], x_sums[i]);
        }
      }
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) MultiplyTile<kBits, kScale, kBias>(ring[u][r], b, x_sums, sums[r]);
      load(ring[u]);
    }
  }
  // Parts are added in the order of their columns.
  __shared__ float parts[kWarps][kRowTiles][kTileRows * kTokens];
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    float* p = parts[warp][r];
    p[2 * t * kTileRows + g] = sums[r][0];
    p[(2 * t + 1) * kTileRows + g] = sums[r][1];
    p[2 * t * kTileRows + g + 8] = sums[r][2];
    p[(2 * t + 1) * kTileRows + g + 8] = sums[r][3];
  }
  __syncthreads();
  const int groups = kWarps / a.split, places = kRowTiles * kTileRows * a.m;
  for (int i = threadIdx.x; i < groups * places; i += kThreads) {
    const int group = i / places, token = i % places / (kRowTiles * kTileRows), row = i % (kRowTiles * kTileRows);
    const int64_t n = (int64_t{blockIdx.x} * groups + group) * kRowTiles * kTileRows + row;
    if (n >= a.rows) continue;
    float sum = 0;
    for (int j = 0; j < a.split; ++j) {
      sum += parts[group * a.split + j][row / kTileRows][token * kTileRows + row % kTileRows];
    }
    float* out = a.y + token * a.y_stride + n;
    *out = a.add ? *out + sum : sum;
  }
}

// Warps per group of rows: as many as still run at once (16 per multiprocessor).
int Split(const Stream& s, int64_t groups, int64_t column_tiles) {
  int split = 1;
  while (split < kWarps && groups * split * 2 <= int64_t{s.multiprocessors} * 16 && column_tiles >= 4 * split)
    split *= 2;
  return split;
}

template <int kBits, ScaleKind kScale, int kBias>
void Start(const Stream& s, const Product& p, const WeightPart& part) {
  const int64_t groups = (part.shape.row_tiles + kRowTiles - 1) / kRowTiles;
  const QuantArgs a = {p.y,
                       p.y_stride,
                       p.shadow.data,
                       p.shadow.stride,
                       part.data,
                       part.shape,
                       static_cast<int>(part.rows),
                       static_cast<int>(p.m),
                       Split(s, groups, part.shape.column_tiles),
                       p.add};
  const int64_t per_block = kWarps / a.split;
  Launch(s, QuantGemvKernel<kBits, kScale, kBias>, dim3(static_cast<unsigned>((groups + per_block - 1) / per_block)),
         dim3(kThreads), 0, a);
}

}  // namespace

void QuantGemv(const Stream& s, const Product& p, const WeightPart& part) {
  ForFormat(part.shape.format,
            [&]<int kBits, ScaleKind kScale, int kBias>() { Start<kBits, kScale, kBias>(s, p, part); });
}

}  // namespace conclave::engine::cuda
