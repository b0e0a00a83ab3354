// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cuda/grouped_plan.h"

#include <algorithm>

namespace conclave::engine::cuda {

GroupedRoom RoomFor(const StackSizes& sizes, int64_t tokens_max, int64_t experts_per_token) {
  GroupedRoom room;
  if (sizes.experts > 0 && experts_per_token > 0) {
    const int64_t k = experts_per_token;
    const int64_t fit = std::min(kPairFloatsMax / (k * sizes.pair_width), kPairsMax / k);
    room.expert_tokens = std::clamp<int64_t>(fit, 1, tokens_max);
    room.pairs = room.expert_tokens * k;
    room.pair_floats = room.pairs * sizes.pair_width;
    room.activated = room.pairs * sizes.activated_width;
    room.activated_f32 = sizes.f32 ? room.activated : 0;
    // The most of any number of tokens and experts: GroupedItemsMax rises with both, but falls with the tile.
    for (const int64_t tile : {kGroupedTileSmall, kGroupedTileMiddle, kGroupedTileLarge}) {
      const int64_t pairs = tile == kGroupedTileSmall    ? std::min(room.pairs, kGroupedTileSmall * k)
                            : tile == kGroupedTileMiddle ? std::min(room.pairs, kGroupedTileMiddle / 2 * sizes.experts)
                                                         : room.pairs;
      room.items = std::max(room.items, GroupedItemsMax(pairs, sizes.experts, tile));
    }
  }
  if (sizes.head_width > 0) {
    room.head_tokens = std::clamp<int64_t>(kHeadElementsOfCallMax / sizes.head_width, 1, tokens_max);
    room.head_elements = room.head_tokens * sizes.head_width;
  }
  return room;
}

}  // namespace conclave::engine::cuda
