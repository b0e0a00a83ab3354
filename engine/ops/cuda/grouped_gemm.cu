// SPDX-License-Identifier: Apache-2.0
// Grouped products of many pairs: a block multiplies 128 rows of the item's matrix by its (up to 64) pairs, 64 columns
// at a time from shared memory, where both lie as bf16: the next columns are fetched while these are used. Block
// formats are dequantised on the way. Lane l = 4 g + t reads columns 8 t .. 8 t + 7 of 32 of rows g: any order of the
// columns is right, as long as both operands have it.
#include "engine/ops/cuda/grouped.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kRows = 128, kPairs = kGroupedTileLarge;
constexpr int kLoadedTiles = kRows / kTileRows / kWarps;             // row tiles that a warp fetches
constexpr int kLoadedPieces = kPairs * kTileColumns / 8 / kThreads;  // 16-byte pieces of activations per thread
constexpr int kWarpRowTiles = 4, kWarpPairTiles = 4;                 // a warp's results: 64 rows x 32 pairs
constexpr int kPieces = 4;                                           // 16-byte pieces of 32 columns
constexpr int kRowsAt = 0, kPairsAt = 2 * 2 * kRows * kPieces;       // in pieces: [buffer][32 columns][row][piece]
constexpr int kSharedBytes = (kPairsAt + 2 * 2 * kPairs * kPieces) * 16;

__device__ int RowPiece(int buffer, int i, int row, int piece) {
  return kRowsAt + ((buffer * 2 + i) * kRows + row) * kPieces + piece;
}
__device__ int PairPiece(int buffer, int i, int pair, int piece) {
  return kPairsAt + ((buffer * 2 + i) * kPairs + pair) * kPieces + piece;
}

// One buffer's 64 columns.
__device__ void MultiplyColumns(const uint4* shared, int buffer, int first_row, int first_pair,
                                float (&sums)[kWarpRowTiles][kWarpPairTiles][4]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    uint4 b[kWarpPairTiles];
#pragma unroll
    for (int n = 0; n < kWarpPairTiles; ++n) b[n] = shared[PairPiece(buffer, i, first_pair + n * 8 + g, t)];
#pragma unroll
    for (int r = 0; r < kWarpRowTiles; ++r) {
      const uint4 low = shared[RowPiece(buffer, i, first_row + r * kTileRows + g, t)];
      const uint4 high = shared[RowPiece(buffer, i, first_row + r * kTileRows + g + 8, t)];
#pragma unroll
      for (int n = 0; n < kWarpPairTiles; ++n) {
        MmaBf16(sums[r][n], low.x, high.x, low.y, high.y, b[n].x, b[n].y);
        MmaBf16(sums[r][n], low.z, high.z, low.w, high.w, b[n].z, b[n].w);
      }
    }
  }
}

// A warp's results to where their pairs' results lie.
__device__ void Store(const GroupedProduct& p, const StackPart& stack, const Group& group, int first_row,
                      int first_pair, const float (&sums)[kWarpRowTiles][kWarpPairTiles][4]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < kWarpPairTiles; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int i = first_pair + n * 8 + 2 * t + j;
      if (i >= group.count) continue;
      float* to = p.y + PairOf(p.groups, group, i) * p.y_stride + stack.part.first_row;
#pragma unroll
      for (int r = 0; r < kWarpRowTiles; ++r) {
#pragma unroll
        for (int high = 0; high < 2; ++high) {
          const int64_t row = int64_t{blockIdx.y} * kRows + first_row + r * kTileRows + g + 8 * high;
          if (row < stack.part.rows) to[row] = sums[r][n][2 * high + j];
        }
      }
    }
  }
}

template <typename Weights>
__global__ void __launch_bounds__(kThreads) GroupedGemmKernel(GroupedProduct p, StackPart stack) {
  extern __shared__ uint4 shared[];
  AwaitPrevious();
  AllowNext();
  const Group group = GroupOf(p.groups, static_cast<int>(blockIdx.x));
  if (group.matrix < 0) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int64_t row_tiles = (stack.part.rows + kTileRows - 1) / kTileRows;
  const int end = static_cast<int>((stack.part.columns + kTileColumns - 1) / kTileColumns);

  typename Weights::TileOf tiles[kLoadedTiles];
  uint4 pieces[kLoadedPieces];
  const int64_t first_tile = int64_t{blockIdx.y} * (kRows / kTileRows) + warp * kLoadedTiles;
  typename Weights::Cursor cursors[kLoadedTiles] = {
      Weights::At(stack, group.matrix, min(first_tile, row_tiles - 1), 0, 1, lane),
      Weights::At(stack, group.matrix, min(first_tile + 1, row_tiles - 1), 0, 1, lane)};
  static_assert(kLoadedTiles == 2);
  // Thread: piece threadIdx % 8 of the 64 columns of pairs threadIdx / 8 + 16 j.
  const int piece = threadIdx.x % 8;
  const uint16_t* x[kLoadedPieces];
#pragma unroll
  for (int j = 0; j < kLoadedPieces; ++j) {
    const int i = static_cast<int>(threadIdx.x) / 8 + j * (kThreads / 8);
    x[j] = i < group.count ? p.x + int64_t{PairOf(p.groups, group, i) / p.x_divisor} * p.x_stride + piece * 8 : nullptr;
  }
  const auto fetch = [&](int column_tile) {
    if (column_tile >= end) return;
#pragma unroll
    for (int i = 0; i < kLoadedTiles; ++i) cursors[i].Next(end, tiles[i]);
#pragma unroll
    for (int j = 0; j < kLoadedPieces; ++j) {
      pieces[j] =
          x[j] != nullptr ? *reinterpret_cast<const uint4*>(x[j] + column_tile * kTileColumns) : make_uint4(0, 0, 0, 0);
    }
  };
  const auto put = [&](int buffer) {
#pragma unroll
    for (int tile = 0; tile < kLoadedTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int high = 0; high < 2; ++high) {
          const int row = (warp * kLoadedTiles + tile) * kTileRows + g + 8 * high;
          shared[RowPiece(buffer, i, row, t)] = Weights::Values(tiles[tile], high, i);
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kLoadedPieces; ++j) {
      shared[PairPiece(buffer, piece / kPieces, static_cast<int>(threadIdx.x) / 8 + j * (kThreads / 8),
                       piece % kPieces)] = pieces[j];
    }
  };
  const int first_row = warp / 2 * kWarpRowTiles * kTileRows, first_pair = warp % 2 * kWarpPairTiles * 8;
  float sums[kWarpRowTiles][kWarpPairTiles][4] = {};
  fetch(0);
  put(0);
  fetch(1);
  __syncthreads();
  for (int column_tile = 0; column_tile < end; ++column_tile) {
    if (column_tile + 1 < end) put((column_tile + 1) % 2);
    fetch(column_tile + 2);
    if (first_pair < group.count) MultiplyColumns(shared, column_tile % 2, first_row, first_pair, sums);
    __syncthreads();
  }
  Store(p, stack, group, first_row, first_pair, sums);
}

}  // namespace

void GroupedGemm(const Stream& s, const GroupedProduct& p, const StackPart& stack) {
  const dim3 grid(static_cast<unsigned>(p.groups.items), static_cast<unsigned>((stack.part.rows + kRows - 1) / kRows));
  ForWeights(stack.part, [&]<typename Weights>() {
    cudaFuncSetAttribute(GroupedGemmKernel<Weights>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
    Launch(s, GroupedGemmKernel<Weights>, grid, dim3(kThreads), kSharedBytes, p, stack);
  });
}

}  // namespace conclave::engine::cuda
