// SPDX-License-Identifier: Apache-2.0
// Products of block formats with 9 to 32 rows of activations. The warps of a block hold different rows of the weight
// and pass over the same columns, so that activations come from the first-level cache; each weight is read once. Where
// there are too few rows to fill the device, blocks divide the columns and a second kernel adds their sums in order.
#include "engine/ops/cuda/quant_tile.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kTokens = 8;  // columns of an mma
constexpr int kTokenTiles = kQuantGemmRowsMax / kTokens;
constexpr int64_t kColumnTilesMin = 8;  // per split

template <int kBits, ScaleKind kScale, int kBias>
__global__ void __launch_bounds__(kThreads, 2) QuantGemmKernel(QuantArgs a, float* partial) {
  constexpr int kAhead = kBits == 4 ? 4 : 2;
  constexpr bool kHasMin = kScale == ScaleKind::kDM || kScale == ScaleKind::kSuper;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int64_t row_tile = int64_t{blockIdx.x} * kWarps + warp;
  const int tiles = static_cast<int>(a.shape.column_tiles), part = static_cast<int>(blockIdx.y);
  const int begin = tiles * part / a.split, end = tiles * (part + 1) / a.split;
  Tile<kBits, kScale> ring[kAhead];
  TileCursor<kBits, kScale> cursor(a, min(row_tile, a.shape.row_tiles - 1), begin, 1, lane);
#pragma unroll
  for (int u = 0; u < kAhead; ++u) cursor.Next(end, ring[u]);
  AwaitPrevious();
  AllowNext();
  float sums[kTokenTiles][4] = {};
  const uint16_t* x = a.x + g * a.x_stride + t * 8;
  for (int base = begin; base < end; base += kAhead) {
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int column_tile = base + u;
      if (column_tile >= end) break;
      const uint16_t* from = x + column_tile * kTileColumns;
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        uint4 b[2];
        float x_sums[2][4] = {};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          b[i] = n * kTokens + g < a.m ? *reinterpret_cast<const uint4*>(from + n * kTokens * a.x_stride + i * 32)
                                       : make_uint4(0, 0, 0, 0);
          if constexpr (kHasMin) SumActivations(b[i], x_sums[i]);
        }
        MultiplyTile<kBits, kScale, kBias>(ring[u], b, x_sums, sums[n]);
      }
      cursor.Next(end, ring[u]);
    }
  }
  const bool whole = a.split == 1;
  float* out = whole ? a.y : partial + int64_t{blockIdx.y} * a.m * a.rows;
  const int64_t stride = whole ? a.y_stride : a.rows;
#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int token = n * kTokens + 2 * t + j % 2;
      const int64_t row = row_tile * kTileRows + g + j / 2 * 8;
      if (token >= a.m || row >= a.rows) continue;
      float* to = out + token * stride + row;
      *to = whole && a.add ? *to + sums[n][j] : sums[n][j];
    }
  }
}

__global__ void AddSplitsKernel(QuantArgs a, const float* partial) {
  AwaitPrevious();
  AllowNext();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, size = int64_t{a.m} * a.rows;
  if (i >= size) return;
  float sum = 0;
  for (int split = 0; split < a.split; ++split) sum += partial[split * size + i];
  float* out = a.y + i / a.rows * a.y_stride + i % a.rows;
  *out = a.add ? *out + sum : sum;
}

}  // namespace

void QuantGemm(const Stream& s, const Product& p, const WeightPart& part, float* partial, int64_t partial_elements) {
  const int64_t blocks = (part.shape.row_tiles + kWarps - 1) / kWarps;
  int64_t split = (s.multiprocessors + blocks - 1) / blocks;
  split = min(split, part.shape.column_tiles / kColumnTilesMin);
  split = max(int64_t{1}, min(split, partial_elements / (p.m * part.rows)));
  const QuantArgs a = {p.y,
                       p.y_stride,
                       p.shadow.data,
                       p.shadow.stride,
                       part.data,
                       part.shape,
                       static_cast<int>(part.rows),
                       static_cast<int>(p.m),
                       static_cast<int>(split),
                       p.add};
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(split));
  ForFormat(part.shape.format, [&]<int kBits, ScaleKind kScale, int kBias>() {
    Launch(s, QuantGemmKernel<kBits, kScale, kBias>, grid, dim3(kThreads), 0, a, partial);
  });
  if (split > 1) {
    const int64_t size = p.m * part.rows;
    Launch(s, AddSplitsKernel, dim3(static_cast<unsigned>((size + kThreads - 1) / kThreads)), dim3(kThreads), 0, a,
           partial);
  }
}

}  // namespace conclave::engine::cuda
