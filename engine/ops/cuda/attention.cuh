// SPDX-License-Identifier: Apache-2.0
// Attention of 16 rows of queries (one warp) to blocks of 16 cached positions, on the matrix units. Queries, keys,
// probabilities and values are halves, sums f32; the softmax is kept in base 2.
//
// Lane l = 4 g + t holds of a 16 x 8 result rows g (values 0, 1) and g + 8 (values 2, 3), columns 2 t and 2 t + 1.
#pragma once

#include "engine/ops/cuda/device.cuh"

namespace conclave::engine::cuda {

inline constexpr float kNoLogit = -1e30f;  // finite, so that differences of it are

// Starts start<tiles, exact>: tiles of 16 elements that a kernel has room for, and whether heads are exactly that wide
// (and rows of q at even places), which spares it asking before each.
template <typename StartKernel>
void ForHeadWidth(const AttentionArgs& a, StartKernel start) {
  const KvShape& kv = a.kv;
  const int tiles = kv.tiles_k > kv.tiles_v ? kv.tiles_k : kv.tiles_v;
  const bool exact = kv.dim_k == tiles * 16 && kv.dim_v == tiles * 16 && (tiles == 4 || tiles == 8 || tiles == 16) &&
                     a.q_stride % 2 == 0;
  if (tiles <= 4) return exact ? start.template operator()<4, true>() : start.template operator()<4, false>();
  if (tiles <= 8) return exact ? start.template operator()<8, true>() : start.template operator()<8, false>();
  return exact ? start.template operator()<16, true>() : start.template operator()<16, false>();
}

// 2^x within 2 ulp; results below the normal range are zero.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 16 bytes into shared memory; without `exists` zeros.
__device__ inline void CopyAsync(uint4* to, const void* from, bool exists) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(exists ? 16 : 0));
}

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
  const float sink = a.sinks[head] * kLog2E, largest = fmaxf(top, sink), mine = Exp2(top - largest);
  return mine / (sum * mine + Exp2(sink - largest));
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

  // exact: heads are as wide as the tiles, rows of q are at even places.
  __device__ void Begin(const AttentionArgs& a, const WarpRows& rows, bool exact) {
#pragma unroll
    for (int i = 0; i < 2; ++i) top[i] = kNoLogit, sum[i] = 0;
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0;
    // All loads before the first use, and none in a branch: rows and elements that do not exist are read from others
    // and multiplied by zero.
    const int t = threadIdx.x % 4, last = a.kv.dim_k - 1;
    const float* from[2];
    float scale[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      from[i] = a.q + max(rows.token[i], 0) * a.q_stride + int64_t{rows.head[i]} * a.kv.dim_k;
      scale[i] = rows.token[i] < 0 ? 0.0f : a.scale_log2;
    }
    float values[kTiles][4][2];  // of register j: row g + 8 (j & 1), elements 8 (j / 2) + 2 t and the next
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int d = tile * 16 + (j / 2) * 8 + 2 * t;
        if (exact) {
          const float2 v = *reinterpret_cast<const float2*>(from[j & 1] + d);
          values[tile][j][0] = v.x, values[tile][j][1] = v.y;
        } else {
          values[tile][j][0] = from[j & 1][min(d, last)];
          values[tile][j][1] = from[j & 1][min(d + 1, last)];
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int d = tile * 16 + (j / 2) * 8 + 2 * t;
        q[tile][j] = PackHalf2(!exact && d > last ? 0.0f : values[tile][j][0] * scale[j & 1],
                               !exact && d + 1 > last ? 0.0f : values[tile][j][1] * scale[j & 1]);
      }
    }
  }

  // Logits of 16 positions: two results of 8 columns. load(tile): the lane's piece of a tile of keys.
  template <typename Load>
  __device__ void Logits(int tiles_k, float (&s)[2][4], Load load) const {
    const uint4 first = load(0);
    MmaF16Fresh(s[0], q[0], first.x, first.z);
    MmaF16Fresh(s[1], q[0], first.y, first.w);
#pragma unroll
    for (int tile = 1; tile < kTiles; ++tile) {
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
      const float shrink = Exp2(top[i] - largest);
      top[i] = largest;
      float added = 0;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
#pragma unroll
          for (int j = 2 * i; j < 2 * i + 2; ++j) {
            s[b][n][j] = Exp2(s[b][n][j] - largest);
            added += s[b][n][j];
          }
        }
      }
      sum[i] = sum[i] * shrink + added;
      if (!__any_sync(0xffffffffu, shrink != 1.0f)) continue;
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

  // Results of the same rows against other positions, by way of shared memory: kPutFloats rows of 32 lanes.
  static constexpr int kPutFloats = 2 * kTiles * 4 + 4;
  __device__ void Put(float* to) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) to[(2 * i) * 32] = top[i], to[(2 * i + 1) * 32] = sum[i];
#pragma unroll
    for (int n = 0; n < 2 * kTiles; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) to[(4 + n * 4 + j) * 32] = out[n][j];
    }
  }
  __device__ void Merge(const float* from) {
    float mine[2], theirs[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float other = from[(2 * i) * 32], largest = fmaxf(other, top[i]);
      mine[i] = Exp2(top[i] - largest);
      theirs[i] = Exp2(other - largest);
      sum[i] = sum[i] * mine[i] + from[(2 * i + 1) * 32] * theirs[i];
      top[i] = largest;
    }
#pragma unroll
    for (int n = 0; n < 2 * kTiles; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) out[n][j] = out[n][j] * mine[j / 2] + from[(4 + n * 4 + j) * 32] * theirs[j / 2];
    }
  }

  __device__ void Store(const AttentionArgs& a, const AttentionItem& item, const WarpRows& rows, int kv_head,
                        bool exact) const {
    const int t = threadIdx.x % 4;
    if (exact && item.partial >= 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (rows.token[i] < 0) continue;
        const int64_t partial = int64_t{item.partial} + int64_t{kv_head} * item.partial_rows + rows.row[i];
        float* to = a.partial_values + partial * (kTiles * 16) + 2 * t;
        if (t == 0) a.partial_sums[partial] = make_float2(top[i], sum[i]);
#pragma unroll
        for (int n = 0; n < 2 * kTiles; ++n) {
          *reinterpret_cast<float2*>(to + n * 8) = make_float2(out[n][2 * i], out[n][2 * i + 1]);
        }
      }
      return;
    }
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

  __device__ int Page(int position) const { return page_list[position / page_tokens]; }
  __device__ const std::byte* Keys(int position) const { return Keys(Page(position), position); }
  __device__ const std::byte* Values(int position) const { return Values(Page(position), position); }
  // With the page of the position.
  __device__ const std::byte* Keys(int page, int position) const {
    return pages + page * page_bytes + head_at + position % page_tokens / 16 * int64_t{tiles_k} * 512;
  }
  __device__ const std::byte* Values(int page, int position) const {
    return pages + page * page_bytes + head_at + values_at + position % page_tokens / 16 * int64_t{tiles_v} * 512;
  }
};

}  // namespace conclave::engine::cuda
