// SPDX-License-Identifier: Apache-2.0
// Attention where values are the front of the keys (absorbed latent attention): wide heads, of which all queries share
// one. A block has 64 rows of queries in shared memory and passes over the positions, 64 (or 32, where the device has
// less shared memory) at a time, each fetched once for logits and values while the ones before are used.
//
// With B blocks of 16 positions, warp B r + h has rows 16 r .. 16 r + 15. Of the logits it makes those of positions
// 16 h .. 16 h + 15; the probabilities go through shared memory, and of the results it has a B-th of the elements.
#include "engine/ops/cuda/attention.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kRowTiles = kRowsOfWideItem / 16;
static_assert(kRowsOfNarrowItem <= kRowsOfWideItem);
constexpr int kManyBlocks = 4, kFewBlocks = 2;  // of 16 positions, at a time

// Bytes of a position in shared memory: an odd number of 16-byte pieces, so that eight rows lie in different banks.
CONCLAVE_HD int RowBytesOf(const KvShape& kv) { return LatentStride(kv) * 2 + 16; }

int64_t SharedBytes(const KvShape& kv, int blocks) {
  return int64_t{kv.tiles_k} * kRowTiles * 512 + int64_t{kRowTiles} * blocks * 512 +
         int64_t{blocks} * kRowsOfWideItem * static_cast<int>(sizeof(float)) +
         int64_t{2} * blocks * 16 * RowBytesOf(kv);
}

// Of shared memory, in order: queries [tile][row tile][32] and probabilities [row tile][block][32] as mma operands,
// the larger of logits and sums [block][64], positions [2][16 blocks].
template <int kBlocks>
struct SharedParts {
  static constexpr int kPositions = kBlocks * kPositionsOfTile;
  uint4 *queries, *probabilities;
  float* exchange;
  std::byte* rows;
  int row_bytes;
  __device__ SharedParts(uint4* shared, const KvShape& kv)
      : queries(shared),
        probabilities(queries + kv.tiles_k * kRowTiles * 32),
        exchange(reinterpret_cast<float*>(probabilities + kRowTiles * kBlocks * 32)),
        rows(reinterpret_cast<std::byte*>(exchange + kBlocks * kRowsOfWideItem)),
        row_bytes(RowBytesOf(kv)) {}
  __device__ std::byte* Row(int stage, int position) const {
    return rows + (stage * kPositions + position) * row_bytes;
  }
};

__device__ uint32_t SharedAddress(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }
__device__ void LoadMatrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ void LoadMatricesTurned(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// Positions `position` .. of one KV head into a stage; zeros from `end` on.
template <int kBlocks>
__device__ void Fetch(const AttentionArgs& a, const AttentionItem& item, const SharedParts<kBlocks>& parts, int kv_head,
                      int position, int end, int stage) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, stride = LatentStride(a.kv) * 2;
  const int32_t* page_list = a.step + a.offsets.pages + item.pages_at;
  for (int i = warp; i < SharedParts<kBlocks>::kPositions; i += kRowTiles * kBlocks) {
    const int at = position + i;
    const bool exists = at < end;
    const std::byte* from = a.pages;
    if (exists) {
      from += page_list[at / a.kv.page_tokens] * a.kv.page_bytes +
              (int64_t{kv_head} * a.kv.page_tokens + at % a.kv.page_tokens) * stride;
    }
    const uint32_t to = SharedAddress(parts.Row(stage, i));
    for (int byte = lane * 16; byte < stride; byte += 32 * 16) {
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to + byte), "l"(exists ? from + byte : from),
                   "r"(exists ? 16 : 0));
    }
  }
  asm volatile("cp.async.commit_group;");
}

// The block's queries, scaled, as mma operands: tiles of 16 elements, of which this warp's rows and every second tile.
template <int kBlocks>
__device__ void PutQueries(const AttentionArgs& a, const WarpRows& rows, const SharedParts<kBlocks>& parts,
                           int row_tile, int first_tile) {
  const int lane = threadIdx.x % 32;
  for (int tile = first_tile; tile < a.kv.tiles_k; tile += kBlocks) {
    uint32_t q[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) q[j] = QueryPair(a, rows, tile, j);
    parts.queries[(tile * kRowTiles + row_tile) * 32 + lane] = make_uint4(q[0], q[1], q[2], q[3]);
  }
}

// Logits of 16 rows and the 16 positions of block `block`.
template <int kBlocks>
__device__ void Logits(const AttentionArgs& a, const SharedParts<kBlocks>& parts, int stage, int row_tile, int block,
                       float (&s)[2][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) s[0][i] = s[1][i] = 0;
  // Matrices: positions 0-7 with elements 0-7 and 8-15, then positions 8-15.
  const uint32_t keys =
      SharedAddress(parts.Row(stage, block * 16 + lane / 16 * 8 + lane % 8)) + static_cast<uint32_t>(lane / 8 % 2 * 16);
#pragma unroll 4
  for (int tile = 0; tile < a.kv.tiles_k; ++tile) {
    uint32_t k[4];
    LoadMatrices(k, keys + static_cast<uint32_t>(tile * 32));
    const uint4 v = parts.queries[(tile * kRowTiles + row_tile) * 32 + lane];
    const uint32_t q[4] = {v.x, v.y, v.z, v.w};
    MmaF16(s[0], q, k[0], k[1]);
    MmaF16(s[1], q, k[2], k[3]);
  }
}

// The largest logit of each row, over all blocks of positions.
template <int kBlocks>
__device__ void RowMaxima(const SharedParts<kBlocks>& parts, int row_tile, int block, const float (&s)[2][4],
                          float (&top)[2]) {
  const int g = threadIdx.x % 32 / 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float largest = fmaxf(fmaxf(s[0][2 * i], s[0][2 * i + 1]), fmaxf(s[1][2 * i], s[1][2 * i + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    if (threadIdx.x % 4 == 0) parts.exchange[block * kRowsOfWideItem + row_tile * 16 + g + 8 * i] = largest;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      top[i] = fmaxf(top[i], parts.exchange[b * kRowsOfWideItem + row_tile * 16 + g + 8 * i]);
    }
  }
}

// kTiles: of 16 elements, of a warp's part of the results.
template <int kTiles, int kBlocks>
__device__ void AddValues(const AttentionArgs& a, const SharedParts<kBlocks>& parts, int stage, int row_tile,
                          int first_tile, float (&out)[2 * kTiles][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    const uint4 v = parts.probabilities[(row_tile * kBlocks + block) * 32 + lane];
    const uint32_t p[4] = {v.x, v.y, v.z, v.w};
    // Matrices: elements 0-7 of positions 0-7 and 8-15, then elements 8-15.
    const uint32_t values = SharedAddress(parts.Row(stage, block * 16 + lane / 8 % 2 * 8 + lane % 8)) +
                            static_cast<uint32_t>(lane / 16 * 16 + first_tile * 32);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (first_tile + tile >= a.kv.tiles_k) break;
      uint32_t b[4];
      LoadMatricesTurned(b, values + static_cast<uint32_t>(tile * 32));
      MmaF16(out[2 * tile], p, b[0], b[1]);
      MmaF16(out[2 * tile + 1], p, b[2], b[3]);
    }
  }
}

// LONG FUNCTION: one loop over positions, whose stages share registers.
template <int kTiles, int kBlocks>
__global__ void __launch_bounds__(kRowTiles* kBlocks * 32, 1) LatentKernel(AttentionArgs a, bool wide) {
  extern __shared__ uint4 shared[];
  constexpr int kWarps = kRowTiles * kBlocks, kPositions = SharedParts<kBlocks>::kPositions;
  AwaitPrevious();
  AllowNext();
  const int items = a.step[a.offsets.counts + (wide ? 1 : 0)];
  if (static_cast<int>(blockIdx.x) >= items) return;
  // The last rows see the most: they go first.
  const int index = items - 1 - static_cast<int>(blockIdx.x);
  const AttentionItem item =
      reinterpret_cast<const AttentionItem*>(a.step + (wide ? a.offsets.wide : a.offsets.narrow))[index];
  const SharedParts<kBlocks> parts(shared, a.kv);
  const int kv_head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
  const int row_tile = warp / kBlocks, part = warp % kBlocks, first_tile = part * kTiles;
  const WarpRows rows = FindRows(a, item, row_tile * 16, kv_head);
  const bool none = __reduce_max_sync(0xffffffffu, max(rows.limit[0], rows.limit[1])) < 0;
  const int first = FirstTile(a, rows, item.kv_begin);
  int* firsts = reinterpret_cast<int*>(parts.exchange);
  if (lane == 0) firsts[warp] = none ? INT_MAX : first;
  PutQueries(a, rows, parts, row_tile, part);
  __syncthreads();
  int begin = firsts[0];  // the first warp has rows
  for (int i = 1; i < kWarps; ++i) begin = min(begin, firsts[i]);
  __syncthreads();  // the same memory is used again
  // A sequence's positions ascend, so its last row sees the furthest; those who share a prefix see all of it.
  const int last_token = a.step[a.offsets.order + (item.first_row + item.rows - 1) / a.group];
  const int end = min(item.kv_end, a.step[a.offsets.positions + last_token] + 1);

  float out[2 * kTiles][4] = {};
  float top[2] = {kNoLogit, kNoLogit}, sum[2] = {0, 0};
  if (begin < end) Fetch(a, item, parts, kv_head, begin, end, 0);
  int stage = 0;
  for (int position = begin; position < end; position += kPositions, stage ^= 1) {
    // All have left the stage that is filled next, by the barrier behind the values.
    if (position + kPositions < end) {
      Fetch(a, item, parts, kv_head, position + kPositions, end, stage ^ 1);
      asm volatile("cp.async.wait_group 1;");
    } else {
      asm volatile("cp.async.wait_group 0;");
    }
    __syncthreads();
    float s[2][4], shrink[2], before[2] = {top[0], top[1]};
    Logits(a, parts, stage, row_tile, part, s);
    MaskLogits(rows, position + part * 16, end, s);
    RowMaxima(parts, row_tile, part, s, top);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      shrink[i] = exp2f(before[i] - top[i]);
      float added = 0;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int j = 2 * i; j < 2 * i + 2; ++j) {
          s[n][j] = exp2f(s[n][j] - top[i]);
          added += s[n][j];
        }
      }
      sum[i] = sum[i] * shrink[i] + added;
    }
    parts.probabilities[(row_tile * kBlocks + part) * 32 + lane] =
        make_uint4(PackHalf2(s[0][0], s[0][1]), PackHalf2(s[0][2], s[0][3]), PackHalf2(s[1][0], s[1][1]),
                   PackHalf2(s[1][2], s[1][3]));
#pragma unroll
    for (int n = 0; n < 2 * kTiles; ++n) {
      out[n][0] *= shrink[0], out[n][1] *= shrink[0], out[n][2] *= shrink[1], out[n][3] *= shrink[1];
    }
    __syncthreads();
    AddValues<kTiles, kBlocks>(a, parts, stage, row_tile, first_tile, out);
    __syncthreads();
  }
  // Sums: of the four lanes of a row, then of all blocks of positions.
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
    sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
    if (lane % 4 == 0) parts.exchange[part * kRowsOfWideItem + row_tile * 16 + g + 8 * i] = sum[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sum[i] = 0;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) sum[i] += parts.exchange[b * kRowsOfWideItem + row_tile * 16 + g + 8 * i];
  }
  StoreRows(a, item, rows, kv_head, out, top, sum, first_tile * 16);
}

template <int kTiles, int kBlocks>
void Start(const Stream& s, const AttentionArgs& a) {
  const auto bytes = static_cast<size_t>(SharedBytes(a.kv, kBlocks));
  cudaFuncSetAttribute(LatentKernel<kTiles, kBlocks>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       static_cast<int>(bytes));
  const auto start = [&](int items, bool wide) {
    if (items == 0) return;
    Launch(s, LatentKernel<kTiles, kBlocks>, dim3(items, a.kv.kv_heads), dim3(kRowTiles * kBlocks * 32), bytes, a,
           wide);
  };
  start(a.narrow_items, false);
  start(a.wide_items, true);
}

}  // namespace

int64_t LatentSharedBytes(const KvShape& kv) { return SharedBytes(kv, kFewBlocks); }

void AttendLatent(const Stream& s, const AttentionArgs& args) {
  constexpr int kTiles = kValueElementsMax / 16, kFewTiles = 8;
  const bool many = SharedBytes(args.kv, kManyBlocks) <= s.block_shared_bytes_max;
  if (args.kv.tiles_v <= kFewTiles) {
    return many ? Start<kFewTiles / kManyBlocks, kManyBlocks>(s, args)
                : Start<kFewTiles / kFewBlocks, kFewBlocks>(s, args);
  }
  many ? Start<kTiles / kManyBlocks, kManyBlocks>(s, args) : Start<kTiles / kFewBlocks, kFewBlocks>(s, args);
}

}  // namespace conclave::engine::cuda
