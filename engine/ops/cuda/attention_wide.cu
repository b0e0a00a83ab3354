// SPDX-License-Identifier: Apache-2.0
// Attention of many rows (prompts, shared prefixes): the warps of a block divide the rows and share keys and values in
// shared memory, of which the next stage is fetched while one is used.
#include "engine/ops/cuda/attention.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = kRowsOfWideItem / 16;
constexpr int kThreads = kWarps * 32;

// The tile with the first position that one of the block's rows attends to.
__device__ int FirstOfBlock(const AttentionArgs& a, const WarpRows& rows, int kv_begin) {
  if (a.window <= 0) return kv_begin;
  __shared__ int firsts[kWarps];
  const bool none = __reduce_max_sync(0xffffffffu, max(rows.limit[0], rows.limit[1])) < 0;
  const int first = FirstTile(a, rows, kv_begin);
  if (threadIdx.x % 32 == 0) firsts[threadIdx.x / 32] = none ? INT_MAX : first;
  __syncthreads();
  int least = firsts[0];  // the first warp has rows
  for (int i = 1; i < kWarps; ++i) least = min(least, firsts[i]);
  return least;
}

// LONG FUNCTION: one pipeline.
template <int kTiles, int kBlocks, bool kExact>
__global__ void __launch_bounds__(kThreads) WideKernel(AttentionArgs a) {
  extern __shared__ uint4 stages[];  // [2][kBlocks][tiles_k + tiles_v][32]
  AwaitPrevious();
  AllowNext();
  if (static_cast<int>(blockIdx.x) >= a.step[a.offsets.counts + 1]) return;
  // The last rows see the most: they go first.
  const int index = a.step[a.offsets.counts + 1] - 1 - static_cast<int>(blockIdx.x);
  const AttentionItem item = reinterpret_cast<const AttentionItem*>(a.step + a.offsets.wide)[index];
  const int kv_head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const WarpRows rows = FindRows(a, item, warp * 16, kv_head);
  const KvBlocks kv(a, item, kv_head);
  const int tiles_k = kExact ? kTiles : kv.tiles_k, tiles_v = kExact ? kTiles : kv.tiles_v;
  const int tiles = tiles_k + tiles_v;
  // A sequence's positions ascend, so its last row sees the furthest; those who share a prefix see all of it.
  const int last_token = a.step[a.offsets.order + (item.first_row + item.rows - 1) / a.group];
  const int end = min(item.kv_end, a.step[a.offsets.positions + last_token] + 1);

  constexpr int kStep = kBlocks * kPositionsOfTile;
  const auto fetch = [&](int position, int stage) {
    for (int block = warp; block < kBlocks; block += kWarps) {
      const int at = position + block * kPositionsOfTile;
      const bool exists = at < end;
      uint4* to = stages + (int64_t{stage} * kBlocks + block) * tiles * 32 + lane;
      const std::byte* keys = exists ? kv.Keys(at) + lane * 16 : a.pages;
      const std::byte* values = exists ? kv.Values(at) + lane * 16 : a.pages;
      for (int tile = 0; tile < tiles_k; ++tile) CopyAsync(to + tile * 32, keys + tile * 512, exists);
      to += tiles_k * 32;
      for (int tile = 0; tile < tiles_v; ++tile) CopyAsync(to + tile * 32, values + tile * 512, exists);
    }
    asm volatile("cp.async.commit_group;");
  };
  Attender<kTiles> attender;
  const int begin = FirstOfBlock(a, rows, item.kv_begin);
  if (begin < end) fetch(begin, 0);
  attender.Begin(a, rows, kExact);
  const int limit = max(rows.limit[0], rows.limit[1]);
  const int warp_limit = __reduce_max_sync(0xffffffffu, limit);
  const int first_limit = __reduce_min_sync(
      0xffffffffu, min(rows.limit[0] < 0 ? INT_MAX : rows.limit[0], rows.limit[1] < 0 ? INT_MAX : rows.limit[1]));
  int stage = 0;
  for (int position = begin; position < end; position += kStep, stage ^= 1) {
    if (position + kStep < end) fetch(position + kStep, stage ^ 1);
    if (position + kStep < end) {
      asm volatile("cp.async.wait_group 1;");
    } else {
      asm volatile("cp.async.wait_group 0;");
    }
    __syncthreads();
    if (position <= warp_limit) {
      const uint4* from = stages + int64_t{stage} * kBlocks * tiles * 32 + lane;
      float s[kBlocks][2][4];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        attender.Logits(tiles_k, s[b], [&](int tile) { return from[(b * tiles + tile) * 32]; });
      }
      if (position + kStep > end || position + kStep - 1 > first_limit || a.window > 0) {
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) MaskLogits(rows, position + b * kPositionsOfTile, end, s[b]);
      }
      attender.template Softmax<kBlocks>(s);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        attender.Values(tiles_v, s[b], [&](int tile) { return from[(b * tiles + tiles_k + tile) * 32]; });
      }
    }
    __syncthreads();
  }
  attender.End();
  attender.Store(a, item, rows, kv_head, kExact);
}

template <int kTiles, int kBlocks, bool kExact>
void Start(const Stream& s, const AttentionArgs& a) {
  const int bytes = 2 * kBlocks * (a.kv.tiles_k + a.kv.tiles_v) * 512;
  cudaFuncSetAttribute(WideKernel<kTiles, kBlocks, kExact>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       2 * kBlocks * 2 * kTiles * 512);
  Launch(s, WideKernel<kTiles, kBlocks, kExact>, dim3(a.wide_items, a.kv.kv_heads), dim3(kThreads), bytes, a);
}

}  // namespace

void AttendWide(const Stream& s, const AttentionArgs& args) {
  ForHeadWidth(args, [&]<int kTiles, bool kExact>() { Start<kTiles, (kTiles <= 8 ? 4 : 2), kExact>(s, args); });
}

}  // namespace conclave::engine::cuda
