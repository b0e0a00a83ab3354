// SPDX-License-Identifier: Apache-2.0
// Tiles of block formats on their way through shared memory: a warp fetches its own, some ahead of those it multiplies.
#pragma once

#include "engine/ops/cuda/quant_tile.cuh"

namespace conclave::engine::cuda {

__device__ inline void CopyAsync16(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from));
}
// Without `exists`: zeros.
__device__ inline void CopyAsync16Or0(uint32_t to, const void* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(exists ? 16 : 0));
}
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ inline void AwaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// kTiles neighbouring tiles of a row tile in shared memory: codes, scales, supers, as in the planes.
template <int kBits, ScaleKind kScale, int kTiles>
struct Staged {
  using TileOf = Tile<kBits, kScale>;
  static constexpr int kCodeBytes = kTiles * TileOf::kCodeBytes;
  static constexpr int kScaleBytes = kTiles * TileOf::kScaleBytes;
  static constexpr int kScaleLanes = kScaleBytes / 16;
  static constexpr int kSuperLanes = TileOf::kHasSuper ? TileOf::kSuperBytes / 16 : 0;
  static constexpr int kBytes = kCodeBytes + 16 * (kScaleLanes + kSuperLanes);
  static_assert(kTiles <= 4 && kScaleLanes + kSuperLanes <= 32);

  // What this lane holds of tile `i` of those at `from`.
  __device__ static TileOf Read(const std::byte* from, int i, int lane) {
    TileOf tile;
    const int g = lane / 4;
#pragma unroll
    for (int j = 0; j < kBits / 4; ++j) {
      tile.codes[j] = reinterpret_cast<const uint4*>(from + i * TileOf::kCodeBytes)[lane + j * 32];
    }
    const std::byte* scales = from + kCodeBytes + i * TileOf::kScaleBytes;
    if constexpr (kScale == ScaleKind::kDM) {
      const uint4 v = reinterpret_cast<const uint4*>(scales)[g];
      tile.scales[0] = v.x, tile.scales[1] = v.y, tile.scales[2] = v.z, tile.scales[3] = v.w;
    } else {
      const uint2 v = reinterpret_cast<const uint2*>(scales)[g];
      tile.scales[0] = v.x, tile.scales[1] = v.y;
    }
    const std::byte* supers = from + kCodeBytes + kScaleBytes;
    if constexpr (kScale == ScaleKind::kSuper) {
      const uint2 v = reinterpret_cast<const uint2*>(supers)[g];
      tile.super[0] = v.x, tile.super[1] = v.y;
    } else if constexpr (kScale == ScaleKind::kSuper6) {
      tile.super[0] = reinterpret_cast<const uint32_t*>(supers)[g];
    }
    return tile;
  }
};

// A lane's way over the columns of several row tiles, `row_step` apart, one tile of each at a time.
template <int kBits, ScaleKind kScale>
struct ColumnWalk {
  using StagedTile = Staged<kBits, kScale, 1>;
  using TileOf = typename StagedTile::TileOf;
  const uint8_t *codes, *rest;  // this lane's, of the first row tile and column 0
  int64_t codes_row, rest_row;  // bytes from one of the row tiles to the next
  int rest_shift, rest_bytes;   // the rest moves on every 2^rest_shift columns
  bool has_rest;
  int lane;

  __device__ ColumnWalk(const QuantArgs& a, int row_tile, int row_step, int lane_in) : lane(lane_in) {
    const int64_t columns = a.shape.column_tiles, supers = (columns + 3) / 4;
    codes = a.w + row_tile * columns * TileOf::kCodeBytes + lane * 16;
    codes_row = row_step * columns * TileOf::kCodeBytes;
    const bool super = lane >= StagedTile::kScaleLanes;
    has_rest = lane < StagedTile::kScaleLanes + StagedTile::kSuperLanes;
    rest_shift = super ? 2 : 0;
    rest_bytes = super ? TileOf::kSuperBytes : TileOf::kScaleBytes;
    const int64_t per_row = super ? supers : columns;
    rest_row = row_step * per_row * rest_bytes;
    rest = a.w + (super ? a.shape.supers_at - StagedTile::kScaleLanes * 16 : a.shape.scales_at) + lane * 16 +
           row_tile * per_row * rest_bytes;
  }
  // The tiles of `rows` row tiles in a column, `stage_step` bytes apart in shared memory.
  template <int kRowsMax>
  __device__ void Fetch(uint32_t to, int stage_step, int rows, int column) const {
    to += lane * 16;
    const uint8_t* from = codes + int64_t{column} * TileOf::kCodeBytes;
    const uint8_t* from_rest = rest + (column >> rest_shift) * rest_bytes;
#pragma unroll
    for (int j = 0; j < kRowsMax; ++j) {
      if (j >= rows) break;
#pragma unroll
      for (int i = 0; i < TileOf::kCodeBytes / 512; ++i) CopyAsync16(to + i * 512, from + i * 512);
      if (has_rest) CopyAsync16(to + StagedTile::kCodeBytes, from_rest);
      to += stage_step;
      from += codes_row;
      from_rest += rest_row;
    }
  }
};

// A lane's way over staged tiles of one row tile after the other: every `step` tiles from `first` on.
template <int kBits, ScaleKind kScale, int kTiles>
struct Walk {
  using StagedTiles = Staged<kBits, kScale, kTiles>;
  using TileOf = typename StagedTiles::TileOf;
  const uint8_t *codes, *rest;  // this lane's of the next tiles
  int left;                     // tiles of the row from the next ones on
  int lane, rest_step, rest_left_min;

  __device__ explicit Walk(int lane_in) : lane(lane_in) {}

  // step: a multiple of 4 where there are supers.
  __device__ void Begin(const QuantArgs& a, int row_tile, int first, int step) {
    const int64_t tile = int64_t{row_tile} * a.shape.column_tiles + first;
    left = static_cast<int>(a.shape.column_tiles) - first;
    codes = a.w + tile * TileOf::kCodeBytes + lane * 16;
    rest = a.w + a.shape.scales_at + tile * TileOf::kScaleBytes + lane * 16;
    rest_step = step * TileOf::kScaleBytes;
    // The first tile whose scales this lane copies.
    rest_left_min = lane < StagedTiles::kScaleLanes ? lane * 16 / TileOf::kScaleBytes : 1 << 30;
    if constexpr (TileOf::kHasSuper) {
      if (lane >= StagedTiles::kScaleLanes) {
        const int64_t super = int64_t{row_tile} * ((a.shape.column_tiles + 3) / 4) + first / 4;
        const int piece = lane - StagedTiles::kScaleLanes;
        rest = a.w + a.shape.supers_at + super * TileOf::kSuperBytes + piece * 16;
        rest_step = step / 4 * TileOf::kSuperBytes;
        if (piece < StagedTiles::kSuperLanes) rest_left_min = 0;
      }
    }
  }
  // Tiles of the row beyond its last are left alone.
  __device__ void Fetch(uint32_t to, int step) {
    to += lane * 16;
#pragma unroll
    for (int i = 0; i < StagedTiles::kCodeBytes / 512; ++i) {
      if (i * 512 / TileOf::kCodeBytes < left) CopyAsync16(to + i * 512, codes + i * 512);
    }
    if (rest_left_min < left) CopyAsync16(to + StagedTiles::kCodeBytes, rest);
    codes += step * TileOf::kCodeBytes;
    rest += rest_step;
    left -= step;
  }
};

}  // namespace conclave::engine::cuda
