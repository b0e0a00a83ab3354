// SPDX-License-Identifier: Apache-2.0
// Grouped products of few pairs, on the matrix units: the warps of a block hold row tiles of the item's matrix and go
// over its columns once, for up to 16 pairs. Bound by memory: each matrix that has pairs is read once, others never.
#include "engine/ops/cuda/grouped.cuh"
#include "engine/ops/cuda/router.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kRowTiles = 2;  // per warp: neighbours, or one of gate and one of up
constexpr int kPairs = 8;     // columns of an mma

// Where a block's warps stand: `split` warps share a place (a group of row tiles), each with its part of the columns.
struct Places {
  int split, of_block, first;
  __device__ explicit Places(int split_in)
      : split(split_in), of_block(kWarps / split_in), first(static_cast<int>(blockIdx.y) * (kWarps / split_in)) {}
};

// The sums of a place's row and pair, over the warps in the order of their columns.
template <int kPairTiles>
__device__ float Sum(const float (&parts)[kWarps][kRowTiles][kPairTiles * kPairs * kTileRows], const Places& places,
                     int place, int tile, int at) {
  float sum = 0;
  for (int j = 0; j < places.split; ++j) sum += parts[place * places.split + j][tile][at];
  return sum;
}

template <int kPairTiles>
__device__ void Store(const float (&parts)[kWarps][kRowTiles][kPairTiles * kPairs * kTileRows], const GroupedProduct& p,
                      const StackPart& stack, const Group& group, const Places& places) {
  const bool gated = p.activated != nullptr;
  const int rows = gated ? kTileRows : kRowTiles * kTileRows, size = rows * group.count;
  const int64_t half = stack.part.rows / 2;
  for (int i = static_cast<int>(threadIdx.x); i < places.of_block * size; i += kThreads) {
    const int place = i / size, index = i % size / rows, row = i % rows;
    const int64_t n = int64_t{places.first + place} * rows + row;
    const int64_t pair = PairOf(p.groups, group, index);
    const int at = index * kTileRows + row % kTileRows;
    if (gated) {
      if (n >= p.activated_stride) continue;
      float value = 0;
      if (n < half) {
        float gate = Sum<kPairTiles>(parts, places, place, 0, at), up = Sum<kPairTiles>(parts, places, place, 1, at);
        if (p.bias != nullptr) {
          gate += p.bias[group.matrix * stack.part.rows + n];
          up += p.bias[group.matrix * stack.part.rows + half + n];
        }
        value = Gated(gate, up, p.activation);
      }
      p.activated[pair * p.activated_stride + n] = ToBf16(value);
    } else if (n < stack.part.rows) {
      p.y[pair * p.y_stride + stack.part.first_row + n] = Sum<kPairTiles>(parts, places, place, row / kTileRows, at);
    }
  }
}

// The group of slot blockIdx.x of the only token.
__device__ Group RoutedGroup(const Groups& groups) {
  const int slot = static_cast<int>(blockIdx.x);
  if (groups.writes_route && slot == 0 && blockIdx.y == 0 && threadIdx.x < 32) {
    RouteToken<8>(groups.route, 0, groups.route.router.top_k, true, nullptr);
  }
  return {RouteToken<8>(groups.route, 0, slot + 1, false, nullptr), slot, 1};
}

template <bool kMayRoute>
__device__ Group FindGroup(const GroupedProduct& p) {
  if (!p.early) AwaitPrevious();
  const Group group = kMayRoute && p.groups.how == Grouping::kRouted ? RoutedGroup(p.groups)
                                                                     : GroupOf(p.groups, static_cast<int>(blockIdx.x));
  // So that who waits for this kernel has waited for the one before.
  if (group.matrix < 0 && p.early) AwaitPrevious();
  return group;
}

template <typename Weights, int kPairTiles>
__global__ void __launch_bounds__(kThreads, 2) GroupedGemvKernel(GroupedProduct p, StackPart stack, int split) {
  __shared__ float parts[kWarps][kRowTiles][kPairTiles * kPairs * kTileRows];
  const Group group = FindGroup<kPairTiles == 1>(p);
  if (group.matrix < 0) return;
  const Places places(split);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int part = warp % split, place = places.first + warp / split;
  const int row_tiles = static_cast<int>((stack.part.rows + kTileRows - 1) / kTileRows);
  const int end = static_cast<int>((stack.part.columns + kTileColumns - 1) / kTileColumns);
  const int first = p.activated != nullptr ? place : 2 * place;
  const int second = p.activated != nullptr ? place + row_tiles / 2 : 2 * place + 1;
  constexpr int kAhead = kPairTiles == 1 ? Weights::kAhead : 2;
  typename Weights::TileOf ring[kAhead][kRowTiles];
  typename Weights::Cursor cursors[kRowTiles] = {
      Weights::At(stack, group.matrix, min(first, row_tiles - 1), part, split, lane),
      Weights::At(stack, group.matrix, min(second, row_tiles - 1), part, split, lane)};
  const auto load = [&](typename Weights::TileOf(&into)[kRowTiles]) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) cursors[r].Next(end, into[r]);
  };
#pragma unroll
  for (int u = 0; u < kAhead; ++u) load(ring[u]);
  AwaitPrevious();
  AllowNext();
  const uint16_t* x[kPairTiles];
#pragma unroll
  for (int n = 0; n < kPairTiles; ++n) {
    const int i = n * kPairs + g;
    x[n] = i < group.count ? p.x + int64_t{PairOf(p.groups, group, i) / p.x_divisor} * p.x_stride + t * 8 : nullptr;
  }
  float sums[kRowTiles][kPairTiles][4] = {};
  for (int base = part; base < end; base += kAhead * split) {
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int column_tile = base + u * split;
      if (column_tile >= end) break;
#pragma unroll
      for (int n = 0; n < kPairTiles; ++n) {
        if (n * kPairs >= group.count) break;
        uint4 b[2];
        float x_sums[2][4] = {};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          b[i] = x[n] != nullptr ? *reinterpret_cast<const uint4*>(x[n] + column_tile * kTileColumns + i * 32)
                                 : make_uint4(0, 0, 0, 0);
          if constexpr (Weights::kHasMin) SumActivations(b[i], x_sums[i]);
        }
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) Weights::Multiply(ring[u][r], b, x_sums, sums[r][n]);
      }
      load(ring[u]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kPairTiles; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        parts[warp][r][(n * kPairs + 2 * t + j % 2) * kTileRows + g + j / 2 * 8] = sums[r][n][j];
      }
    }
  }
  __syncthreads();
  Store<kPairTiles>(parts, p, stack, group, places);
}

// Warps per place: as many as still run at once (16 per multiprocessor).
int Split(const Stream& s, int64_t places, int64_t column_tiles) {
  int split = 1;
  while (split < kWarps && places * split * 2 <= int64_t{s.multiprocessors} * 16 && column_tiles >= 4 * split)
    split *= 2;
  return split;
}

}  // namespace

void GroupedGemv(const Stream& s, const GroupedProduct& p, const StackPart& stack) {
  const WeightPart& part = stack.part;
  const int64_t row_tiles = (part.rows + kTileRows - 1) / kTileRows;
  const int64_t places = p.activated != nullptr ? p.activated_stride / kTileRows : (row_tiles + 1) / kRowTiles;
  const int split = Split(s, places * p.groups.items, (part.columns + kTileColumns - 1) / kTileColumns);
  const int64_t of_block = kWarps / split;
  const dim3 grid(static_cast<unsigned>(p.groups.items), static_cast<unsigned>((places + of_block - 1) / of_block));
  ForWeights(part, [&]<typename Weights>() {
    if (p.groups.tile <= kGroupedTileSmall) {
      Launch(s, GroupedGemvKernel<Weights, 1>, grid, dim3(kThreads), 0, p, stack, split);
    } else {
      Launch(s, GroupedGemvKernel<Weights, kGroupedTileMiddle / kPairs>, grid, dim3(kThreads), 0, p, stack, split);
    }
  });
}

}  // namespace conclave::engine::cuda
