// SPDX-License-Identifier: Apache-2.0
// One step's work as the device sees it: a single block of 32-bit words, uploaded once, that every kernel of the step
// reads. Offsets depend on the step's StepKey only, so that a recorded graph stays valid for every step of its key.
//
// Attention. Rows are (token, head of a KV group) pairs: row = order * (H / G) + head, `order` counting the step's
// tokens with those of sequences that share a prefix next to each other. An item is one block's work for each KV head:
// some rows against a range of cached positions. A token whose range is split has partial results, merged afterwards in
// a fixed order. A shared prefix is attended once by all rows that share it.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/ops/ops.h"

namespace conclave::engine::cuda {

inline constexpr int kRowsOfNarrowItem = 16;  // one mma tile of rows; warps divide the positions
inline constexpr int kRowsOfWideItem = 64;    // warps divide the rows
inline constexpr int kRowsOfTrunkItem = 128;  // of a shared prefix: every row sees every position
inline constexpr int kPositionsOfTile = 16;   // item ranges begin at a multiple

// Mirrored by the kernels.
struct AttentionItem {
  int32_t first_row, rows;
  int32_t pages_at;          // of the sequence (any of those that share), into the page list
  int32_t kv_begin, kv_end;  // positions; kv_end also ends what exists
  int32_t partial;           // partial row of first_row for KV head 0, or -1: the result is final
  int32_t partial_rows;      // per KV head, of this item's set of rows
  int32_t unused;
};

// What the shape of a step's launches depends on.
struct StepKey {
  int32_t tokens = 0, logit_rows = 0;
  int32_t pages = 0, narrow_items = 0, wide_items = 0, trunk_items = 0, merges = 0;  // room, in powers of two
  friend bool operator==(const StepKey&, const StepKey&) = default;
};

// Word offsets into the block.
struct StepOffsets {
  int64_t counts;  // [3]: narrow, wide and trunk items
  int64_t tokens, positions, kv_slots;
  int64_t logit_rows;
  int64_t experts;              // [T] experts of the token; 0: the router's own
  int64_t order;                // [T] token at each place of the order
  int64_t merge_of_token;       // [T + 1]: into merges
  int64_t narrow, wide, trunk;  // AttentionItem
  int64_t merges;               // of one token: the partial row of its head 0, for KV head 0, and partial_rows; pairs
  int64_t pages;
  int64_t words;
};
StepOffsets OffsetsOf(const StepKey& key);

struct PlanShape {
  int32_t query_heads, kv_heads, page_tokens;
  int32_t multiprocessors;
  int64_t partial_rows_max;  // over all KV heads
  bool trunk_items;          // shared prefixes have a kernel of their own
};

struct StepPlan {
  StepKey key;
  StepOffsets offsets = {};
  std::vector<AttentionItem> narrow, wide, trunk;
  std::vector<int32_t> order, merge_of_token, merges;
  int64_t partial_rows = 0;  // over all KV heads
};

// Partial rows to provide, over all KV heads.
int64_t PartialRowsMax(const Ops::StepLimits& limits, int32_t multiprocessors);
// Words of the largest step within the limits.
int64_t WordsMax(const Ops::StepLimits& limits, const PlanShape& shape);

// Fills `plan`; the batch was checked.
void PlanStep(const StepBatch& batch, const PlanShape& shape, StepPlan* plan);
// Writes the block, offsets.words words.
void WriteStep(const StepBatch& batch, const StepPlan& plan, int32_t* words);

}  // namespace conclave::engine::cuda
