// SPDX-License-Identifier: Apache-2.0
// Attention of the many rows that share a prefix to the positions of that prefix, of which only a window can hide any.
// A warp holds 32 rows, so that what it reads of keys and values serves two products; the two halves of a block divide
// the positions and merge at the end. Stages of keys and values are fetched some ahead.
#include "engine/ops/cuda/attention.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kRowWarps = kRowsOfTrunkItem / 32, kHalves = 2;
constexpr int kWarps = kRowWarps * kHalves;
constexpr int kThreads = kWarps * 32;
constexpr int kBlocks = 2;  // of 16 positions, of a half in a stage

// Rows first .. first + 31 of an item.
template <int kTiles>
struct TwoAttenders {
  Attender<kTiles> of[2];
  WarpRows rows[2];

  __device__ void Begin(const AttentionArgs& a, const AttentionItem& item, int first, int kv_head, bool exact) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      rows[r] = FindRows(a, item, first + 16 * r, kv_head);
      of[r].Begin(a, rows[r], exact);
    }
  }
  // from: the lane's piece of the first tile of each block, `block_step` pieces apart; positions from `position` on.
  __device__ void Attend(const uint4* from, int block_step, int tiles_k, int tiles_v, int position, int end,
                         bool masked) {
    float s[2][kBlocks][2][4];
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if (tile >= tiles_k) break;
        const uint4 k = from[b * block_step + tile * 32];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          if (tile == 0) {
            MmaF16Fresh(s[r][b][0], of[r].q[tile], k.x, k.z);
            MmaF16Fresh(s[r][b][1], of[r].q[tile], k.y, k.w);
          } else {
            MmaF16(s[r][b][0], of[r].q[tile], k.x, k.z);
            MmaF16(s[r][b][1], of[r].q[tile], k.y, k.w);
          }
        }
      }
    }
    uint32_t p[2][kBlocks][4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (masked || position + kBlocks * kPositionsOfTile > end) {
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) {
          MaskLogits(rows[r], position + b * kPositionsOfTile, end, s[r][b]);
        }
      }
      of[r].template Softmax<kBlocks>(s[r]);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
        for (int i = 0; i < 4; ++i) p[r][b][i] = PackHalf2(s[r][b][i / 2][i % 2 * 2], s[r][b][i / 2][i % 2 * 2 + 1]);
      }
    }
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if (tile >= tiles_v) break;
        const uint4 v = from[b * block_step + (tiles_k + tile) * 32];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          MmaF16(of[r].out[2 * tile], p[r][b], v.x, v.z);
          MmaF16(of[r].out[2 * tile + 1], p[r][b], v.y, v.w);
        }
      }
    }
  }
};

// LONG FUNCTION: the pipeline, and the merge of the halves that ends it.
template <int kTiles, int kStages, bool kExact>
__global__ void __launch_bounds__(kThreads, 1) TrunkKernel(AttentionArgs a) {
  extern __shared__ uint4 stages[];  // [kStages][kHalves][kBlocks][tiles_k + tiles_v][32]
  AwaitPrevious();
  AllowNext();
  // There is room for an item of every block: it is read together with their number.
  const AttentionItem item = reinterpret_cast<const AttentionItem*>(a.step + a.offsets.trunk)[blockIdx.x];
  if (static_cast<int>(blockIdx.x) >= a.step[a.offsets.counts + 2]) return;
  const int kv_head = blockIdx.y, lane = threadIdx.x % 32;
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / 32), 0), half = warp / kRowWarps;
  const KvBlocks kv(a, item, kv_head);
  const int tiles_k = kExact ? kTiles : kv.tiles_k, tiles_v = kExact ? kTiles : kv.tiles_v;
  const int tiles = tiles_k + tiles_v;
  constexpr int kHalfPositions = kBlocks * kPositionsOfTile, kStep = kHalves * kHalfPositions;
  const int stage_size = kHalves * kBlocks * tiles * 32;
  // A warp fetches the keys or the values of one of a stage's blocks; it knows the page one stage before.
  static_assert(kWarps == 2 * kHalves * kBlocks);
  const int block = warp / 2, count = warp % 2 == 0 ? tiles_k : tiles_v;
  const int place = (block * tiles + (warp % 2 == 0 ? 0 : tiles_k)) * 32 + lane;
  int next = item.kv_begin + block * kPositionsOfTile;
  const int last_page = (item.kv_end - 1) / kv.page_tokens;
  int page_at = next / kv.page_tokens, in_page = next % kv.page_tokens;
  int page = kv.page_list[min(page_at, last_page)];
  const std::byte* base = a.pages + kv.head_at + (warp % 2 == 0 ? 0 : kv.values_at) + lane * 16;
  const auto fetch = [&](int stage) {
    if (next - block * kPositionsOfTile < item.kv_end) {
      const bool exists = next < item.kv_end;
      uint4* to = stages + stage * stage_size + place;
      const std::byte* from = base + page * kv.page_bytes + in_page / kPositionsOfTile * (count * 512);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if (kExact || tile < count) CopyAsync(to + tile * 32, exists ? from + tile * 512 : a.pages, exists);
      }
    }
    asm volatile("cp.async.commit_group;");
    next += kStep;
    for (in_page += kStep; in_page >= kv.page_tokens; in_page -= kv.page_tokens) ++page_at;
    page = kv.page_list[min(page_at, last_page)];
  };
#pragma unroll 1
  for (int s = 0; s < kStages - 1; ++s) fetch(s);
  TwoAttenders<kTiles> attenders;
  attenders.Begin(a, item, warp % kRowWarps * 32, kv_head, kExact);
  int stage = 0;
#pragma unroll 1
  for (int position = item.kv_begin; position < item.kv_end; position += kStep) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
    __syncthreads();
    fetch(stage == 0 ? kStages - 1 : stage - 1);
    const int mine = position + half * kHalfPositions;
    if (mine < item.kv_end) {
      attenders.Attend(stages + stage * stage_size + half * kBlocks * tiles * 32 + lane, tiles * 32, tiles_k, tiles_v,
                       mine, item.kv_end, a.window > 0);
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  // The second half's results, in the stages: [kRowWarps][2][kPutFloats][32]
  constexpr int kFloats = Attender<kTiles>::kPutFloats;
  float* put = reinterpret_cast<float*>(stages) + warp % kRowWarps * 2 * kFloats * 32 + lane;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    attenders.of[r].End();
    if (half == 1) attenders.of[r].Put(put + r * kFloats * 32);
  }
  __syncthreads();
  if (half == 1) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    attenders.of[r].Merge(put + r * kFloats * 32);
    attenders.of[r].Store(a, item, attenders.rows[r], kv_head, kExact);
  }
}

template <int kTiles, bool kExact>
void Start(const Stream& s, const AttentionArgs& a) {
  constexpr int kStages = kTiles <= 8 ? 4 : 3;
  constexpr int kStageBytes = kHalves * kBlocks * 2 * kTiles * 512;
  constexpr int kMergeBytes = kRowWarps * 2 * Attender<kTiles>::kPutFloats * 32 * static_cast<int>(sizeof(float));
  constexpr int kBytes = kStages * kStageBytes > kMergeBytes ? kStages * kStageBytes : kMergeBytes;
  static_assert(kBytes <= kTrunkSharedBytes);
  const auto kernel = TrunkKernel<kTiles, kStages, kExact>;
  static const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  (void)allowed;
  Launch(s, kernel, dim3(a.trunk_items, a.kv.kv_heads), dim3(kThreads), kBytes, a);
}

}  // namespace

void AttendTrunk(const Stream& s, const AttentionArgs& args) {
  ForHeadWidth(args, [&]<int kTiles, bool kExact>() {
    if constexpr (kTiles * 16 <= kTrunkHeadElementsMax) Start<kTiles, kExact>(s, args);
  });
}

}  // namespace conclave::engine::cuda
