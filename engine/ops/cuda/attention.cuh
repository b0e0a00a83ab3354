// SPDX-License-Identifier: Apache-2.0
// Attention of 16 rows of queries (one warp) to blocks of 16 cached positions, on the matrix units. Queries, keys,
// probabilities and values are halves, sums f32; the softmax is kept in base 2.
//
// Lane l = 4 g + t holds of a 16 x 8 result rows g (values 0, 1) and g + 8 (values 2, 3), columns 2 t and 2 t + 1.
#pragma once

#include "engine/ops/cuda/device.cuh"

namespace conclave::engine::cuda {

inline constexpr float kNoLogit = -1e30f;  // finite, so that differences of it are

// A warp's rows of one item.
struct WarpRows {
  int row[2];    // within the item, of g and g + 8
  int token[2];  // -1: no such row
  int head[2];
  int first[2];  // first position attended
  int limit[2];  // last position attended; -1: none
};

__device__ inline WarpRows FindRows(const AttentionArgs& a, const AttentionItem& item, int first, int kv_head) {
  WarpRows rows;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    rows.row[i] = first + static_cast<int>(threadIdx.x % 32 / 4) + 8 * i;
    rows.token[i] = rows.limit[i] = -1;
    rows.head[i] = rows.first[i] = 0;
    if (rows.row[i] >= item.rows) continue;
    const int row = item.first_row + rows.row[i];
    rows.token[i] = a.step[a.offsets.order + row / a.group];
    rows.head[i] = kv_head * a.group + row % a.group;
    rows.limit[i] = a.step[a.offsets.positions + rows.token[i]];
    if (a.window > 0) rows.first[i] = max(0, rows.limit[i] + 1 - a.window);
  }
  return rows;
}

// The tile with the first position that one of a warp's rows attends to, not before `begin`.
__device__ inline int FirstTile(const AttentionArgs& a, const WarpRows& rows, int begin) {
  if (a.window <= 0) return begin;
  int first = INT_MAX;
#pragma unroll
  for (int i = 0; i < 2; ++i) first = rows.token[i] < 0 ? first : min(first, rows.first[i]);
  first = __reduce_min_sync(0xffffffffu, first);
  return first == INT_MAX ? begin : max(begin, first / kPositionsOfTile * kPositionsOfTile);
}

// Takes out what a row may not see: columns 2 t, 2 t + 1 of both results of 8 columns, from `position` on.
__device__ inline void MaskLogits(const WarpRows& rows, int position, int end, float (&s)[2][4]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = position + n * 8 + 2 * t + i % 2;
      if (at >= end || at > rows.limit[i / 2] || at < rows.first[i / 2]) s[n][i] = -INFINITY;
    }
  }
}

// What a row's values are multiplied by at the end: a sink is one more logit, whose value is zero.
__device__ inline float FinalScale(const AttentionArgs& a, int head, float top, float sum) {
  if (a.sinks == nullptr) return 1.0f / sum;
  constexpr float kLog2E = 1.44269504f;
  const float sink = a.sinks[head] * kLog2E, largest = fmaxf(top, sink), mine = exp2f(top - largest);
  return mine / (sum * mine + exp2f(sink - largest));
}

// A warp's rows: elements first_element + 8 n + 2 t, of `out`, final or as partial results.
template <int kCount>
__device__ void StoreRows(const AttentionArgs& a, const AttentionItem& item, const WarpRows& rows, int kv_head,
                          const float (&out)[kCount][4], const float (&top)[2], const float (&sum)[2],
                          int first_element) {
  const int t = threadIdx.x % 4, dim = a.kv.dim_v;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (rows.token[i] < 0) continue;
    const int64_t partial = int64_t{item.partial} + int64_t{kv_head} * item.partial_rows + rows.row[i];
    const int64_t at = (int64_t{rows.token[i]} * a.group * a.kv.kv_heads + rows.head[i]) * dim;
    const int64_t shadow_at = rows.token[i] * a.shadow.stride + int64_t{rows.head[i]} * dim;
    const float scale = item.partial >= 0 ? 1.0f : FinalScale(a, rows.head[i], top[i], sum[i]);
    float* to = item.partial >= 0 ? a.partial_values + partial * dim : a.y + at;
    if (item.partial >= 0 && t == 0 && first_element == 0) a.partial_sums[partial] = make_float2(top[i], sum[i]);
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int d = first_element + n * 8 + 2 * t + j;
        if (d >= dim) continue;
        const float value = out[n][2 * i + j] * scale;
        to[d] = value;
        if (item.partial < 0 && a.shadow.data != nullptr) a.shadow.data[shadow_at + d] = ToBf16(value);
      }
    }
  }
}

// Register j of a tile of queries, scaled: row g + 8 (j & 1), elements 8 (j / 2) + 2 t and the next.
__device__ inline uint32_t QueryPair(const AttentionArgs& a, const WarpRows& rows, int tile, int j) {
  const int i = j & 1, d = tile * 16 + (j / 2) * 8 + 2 * static_cast<int>(threadIdx.x % 4);
  float low = 0, high = 0;
  if (rows.token[i] >= 0) {
    const float* from = a.q + rows.token[i] * a.q_stride + int64_t{rows.head[i]} * a.kv.dim_k + d;
    if (d < a.kv.dim_k) low = from[0] * a.scale_log2;
    if (d + 1 < a.kv.dim_k) high = from[1] * a.scale_log2;
  }
  return PackHalf2(low, high);
}

template <int kTiles>
struct Attender {
  uint32_t q[kTiles][4];
  float out[2 * kTiles][4];
  float top[2], sum[2];  // of rows g, g + 8; the sum is this lane's share

  __device__ void Begin(const AttentionArgs& a, const WarpRows& rows) {
#pragma unroll
    for (int i = 0; i < 2; ++i) top[i] = kNoLogit, sum[i] = 0;
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int j = 0; j < 4; ++j) q[tile][j] = QueryPair(a, rows, tile, j);
    }
  }

  // Logits of 16 positions: two results of 8 columns. load(tile): the lane's piece of a tile of keys.
  template <typename Load>
  __device__ void Logits(int tiles_k, float (&s)[2][4], Load load) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[0][i] = s[1][i] = 0;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile >= tiles_k) break;
      const uint4 k = load(tile);
      MmaF16(s[0], q[tile], k.x, k.z);
      MmaF16(s[1], q[tile], k.y, k.w);
    }
  }

  // Moves the running maximum; logits become probabilities relative to it.
  template <int kBlocks>
  __device__ void Softmax(float (&s)[kBlocks][2][4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float largest = top[i];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
        for (int n = 0; n < 2; ++n) largest = fmaxf(largest, fmaxf(s[b][n][2 * i], s[b][n][2 * i + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      const float shrink = exp2f(top[i] - largest);
      top[i] = largest;
      float added = 0;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
#pragma unroll
          for (int j = 2 * i; j < 2 * i + 2; ++j) {
            s[b][n][j] = exp2f(s[b][n][j] - largest);
            added += s[b][n][j];
          }
        }
      }
      sum[i] = sum[i] * shrink + added;
#pragma unroll
      for (int n = 0; n < 2 * kTiles; ++n) out[n][2 * i] *= shrink, out[n][2 * i + 1] *= shrink;
    }
  }

  // out += probabilities of 16 positions times their values. load(tile): the lane's piece of a tile of values.
  template <typename Load>
  __device__ void Values(int tiles_v, const float (&p)[2][4], Load load) {
    const uint32_t a[4] = {PackHalf2(p[0][0], p[0][1]), PackHalf2(p[0][2], p[0][3]), PackHalf2(p[1][0], p[1][1]),
                           PackHalf2(p[1][2], p[1][3])};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile >= tiles_v) break;
      const uint4 v = load(tile);
      MmaF16(out[2 * tile], a, v.x, v.z);
      MmaF16(out[2 * tile + 1], a, v.y, v.w);
    }
  }

  // Completes the sums over the four lanes of a row.
  __device__ void End() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
      sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
    }
  }

  __device__ void Store(const AttentionArgs& a, const AttentionItem& item, const WarpRows& rows, int kv_head) const {
    StoreRows(a, item, rows, kv_head, out, top, sum, 0);
  }
};

// The block of 16 positions that begins at `position`, of one KV head: its keys' tiles; values follow at values_at.
struct KvBlocks {
  const std::byte* pages;
  const int32_t* page_list;
  int64_t page_bytes, head_at, values_at;
  int page_tokens, tiles_k, tiles_v;

  __device__ KvBlocks(const AttentionArgs& a, const AttentionItem& item, int kv_head)
      : pages(a.pages),
        page_list(a.step + a.offsets.pages + item.pages_at),
        page_bytes(a.kv.page_bytes),
        head_at(int64_t{kv_head} * a.kv.page_tokens * 32 * (a.kv.tiles_k + a.kv.tiles_v)),
        values_at(int64_t{a.kv.page_tokens} * 32 * a.kv.tiles_k),
        page_tokens(a.kv.page_tokens),
        tiles_k(a.kv.tiles_k),
        tiles_v(a.kv.tiles_v) {}

  __device__ const std::byte* Keys(int position) const {
    return pages + page_list[position / page_tokens] * page_bytes + head_at +
           position % page_tokens / 16 * int64_t{tiles_k} * 512;
  }
  __device__ const std::byte* Values(int position) const {
    return pages + page_list[position / page_tokens] * page_bytes + head_at + values_at +
           position % page_tokens / 16 * int64_t{tiles_v} * 512;
  }
};

}  // namespace conclave::engine::cuda
