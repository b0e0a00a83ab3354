// SPDX-License-Identifier: Apache-2.0
// How grouped products (grouped.h) are divided, how much room they need, and in how many parts a call is done so that
// this is bounded. Without the CUDA toolkit: tested on any machine.
#pragma once

#include <cstdint>

#include "engine/ops/cuda/packed_layout.h"

namespace conclave::engine::cuda {

inline constexpr int kGroupedTileSmall = 8, kGroupedTileMiddle = 16, kGroupedTileLarge = 64;
// How many pairs an item has at most. kGroupedTileLarge wants GroupedGemm, the others GroupedGemv.
CONCLAVE_HD int32_t GroupedTile(int64_t tokens, int64_t pairs, int64_t matrices) {
  if (tokens <= kGroupedTileSmall) return kGroupedTileSmall;
  return pairs <= kGroupedTileMiddle / 2 * matrices ? kGroupedTileMiddle : kGroupedTileLarge;
}
// Items of `pairs` that are spread over `matrices` in any way: sum of ceil(pairs of a matrix / tile).
CONCLAVE_HD int64_t GroupedItemsMax(int64_t pairs, int64_t matrices, int64_t tile) {
  const int64_t hit = pairs < matrices ? pairs : matrices;  // one each; each further item takes a tile more
  return hit + (pairs - hit) / tile;
}
// Whether gate and up of one row of a matrix of `rows` are in tiles of the same place, so that one block has both.
CONCLAVE_HD bool CanGate(int64_t rows) { return rows % (2 * kTileRows) == 0; }

// Results of pairs, and activations per head, of one part of a call: 512 MB and 128 MB.
inline constexpr int64_t kPairFloatsMax = int64_t{128} << 20;
inline constexpr int64_t kHeadElementsOfCallMax = int64_t{64} << 20;
// A dimension of grids.
inline constexpr int64_t kPairsMax = 65535;

// Of all stacks of a model: what workspaces depend on. 0: it has none.
struct StackSizes {
  int64_t experts = 0;
  int64_t pair_width = 0;       // widest result of a pair
  int64_t activated_width = 0;  // widest x of an expert's product, rounded up to a tile
  int64_t head_width = 0;       // heads x columns, rounded up to a tile
  bool f32 = false;             // some expert's matrix is F32
};

struct GroupedRoom {
  int64_t expert_tokens = 0;  // of one part of ExpertFfn
  int64_t pairs = 0;
  int64_t pair_floats = 0, activated = 0, activated_f32 = 0;  // elements
  int64_t items = 0;
  int64_t head_tokens = 0, head_elements = 0;  // of one part of HeadGemm
};

GroupedRoom RoomFor(const StackSizes& sizes, int64_t tokens_max, int64_t experts_per_token);

}  // namespace conclave::engine::cuda
