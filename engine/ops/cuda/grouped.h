// SPDX-License-Identifier: Apache-2.0
// Products of many matrices at once, each with rows of activations of its own: experts with the tokens that chose them,
// heads. A pair is a row of activations with the matrix it is multiplied by; results lie where the pair counts. An item
// is one block's pairs, all of one matrix. Pointers are device memory.
#pragma once

#include <cstdint>

#include "engine/ops/cuda/grouped_plan.h"
#include "engine/ops/cuda/kernels.h"
#include "engine/ops/cuda/limits.h"

namespace conclave::engine::cuda {

// Rows of one format, of every matrix of a stack. `part.data` is the first matrix's, and `part.shape` one matrix's.
// F32 rows lie as they are, all else in tiles.
struct StackPart {
  WeightPart part;
  int64_t matrix_bytes;
};

struct GroupItem {
  int32_t matrix, first, count;  // pairs: order[first ..]
};

struct RouteArgs {
  int32_t* ids;
  float* weights;
  const float* logits;
  const float* bias;                // ? [E]
  const int32_t* experts_of_token;  // [T], 0: the router's own
  int64_t tokens;
  RouterSpec router;
};
enum class Grouping : int32_t {
  kSorted,  // pairs of `order`, as the items say
  kDirect,  // an item is a pair; ids[pair] is its matrix, negative: none
  kRouted,  // as kDirect, of one token that every warp routes itself (CanRouteInside), so that no kernel stands before
  kHeads,   // pair = token * matrices + matrix
};

struct Groups {
  Grouping how;
  int32_t matrices;
  int32_t tile;    // pairs of an item at most
  int32_t items;   // at most: blocks to start
  int32_t tokens;  // kHeads
  const int32_t* ids;
  int32_t* order;
  GroupItem* sorted_items;
  int32_t* num_items;
  RouteArgs route;    // kRouted
  bool writes_route;  // the first block writes ids and weights
};

struct GroupedProduct {
  Groups groups;
  const uint16_t* x;  // bf16, zero beyond the columns up to a multiple of 64
  int64_t x_stride;
  const float* x_f32;  // where the weights are f32
  int64_t x_f32_stride;
  int32_t x_divisor;  // row of x: pair / x_divisor
  // The groups were written by a kernel that ended before the one before this began: weights may be fetched early.
  bool early;
  float* y;  // row: pair
  int64_t y_stride;
  // Instead of y, where `activated` is set: rows are gate | up, and this gets what the activation makes of them, bf16,
  // zero up to the stride.
  uint16_t* activated;
  int64_t activated_stride;
  const float* bias;  // ? [matrices, rows]
  GatedActivation activation;
};

// Whether kRouted does a router: its warps have an expert per lane eight times, and no room for groups.
CONCLAVE_HD bool CanRouteInside(const RouterSpec& router) {
  return router.experts <= 8 * 32 && router.top_groups == router.groups;
}

// Fills order, sorted_items and num_items from ids [pairs]: pairs of a matrix in rising order.
void SortGroups(const Stream& s, const Groups& groups, int64_t pairs);
void GroupedGemv(const Stream& s, const GroupedProduct& p, const StackPart& part);
void GroupedGemm(const Stream& s, const GroupedProduct& p, const StackPart& part);
void GroupedF32(const Stream& s, const GroupedProduct& p, const StackPart& part);

// ---- Mixtures of experts (router.cu, experts.cu)
void RouteTokens(const Stream& s, const RouteArgs& args);

struct ActivateArgs {
  const float* gate_up;  // [pairs, 2 F]
  const int32_t* ids;    // [pairs]; negative: left alone
  const float* bias;     // ? [E, 2 F]
  uint16_t* activated;   // ? bf16, zero up to the stride
  int64_t activated_stride;
  float* activated_f32;  // ? [pairs, F]
  int64_t pairs, width;  // F
  GatedActivation activation;
};
void ActivatePairs(const Stream& s, const ActivateArgs& args);

struct CombineArgs {
  float* y;            // [T, D]
  const float* pairs;  // [T, slots, D]
  const int32_t* ids;
  const float* weights;  // [T, slots]
  const float* bias;     // ? [E, D]
  int64_t tokens, slots, width;
  bool add;
};
void CombinePairs(const Stream& s, const CombineArgs& args);
// It and AddRmsNormRows of the same rows, with `combine.y` as x: the same numbers bit for bit.
void CombineAddRmsNormRows(const Stream& s, const CombineArgs& combine, float* residual, float* y, const float* gain,
                           float eps, const Shadow& shadow);

// ---- Products per head (experts.cu): of rows of x, [rows, width + rest], the first `width` as bf16 (where wanted),
// and the rest behind the product in rows of y, `y_stride` apart.
struct SplitHeadsArgs {
  const float* x;
  float* y;
  uint16_t* shadow;  // ?
  int64_t shadow_stride, rows, width, rest, y_stride;
};
void SplitHeads(const Stream& s, const SplitHeadsArgs& args);

}  // namespace conclave::engine::cuda
