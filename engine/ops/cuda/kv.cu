// SPDX-License-Identifier: Apache-2.0
// Writing and copying KV pages.
#include "engine/ops/cuda/device.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kThreads = 256;

// Byte of (row, column) in a 16 x 16 tile of halves in the order of an mma A operand: registers a0 (rows 0-7, columns
// 0-7), a1 (rows 8-15), a2 (columns 8-15), a3.
__device__ int TileIndex(int row, int column) {
  const int lane = (row % 8) * 4 + (column % 8) / 2;
  return lane * 8 + (row / 8) * 2 + (column / 8) * 4 + column % 2;
}

// Saturates: an infinity left in a page would poison sequences that reuse it.
__device__ __half ToHalf(float v) { return __float2half_rn(fminf(fmaxf(v, -65504.0f), 65504.0f)); }

// One element of a key or value per thread; grid y: tokens.
__global__ void WriteKvKernel(std::byte* pages, KvShape kv, KvRows rows, const int32_t* kv_slots) {
  AwaitPrevious();
  AllowNext();
  const int64_t t = blockIdx.y;
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x), k_width = kv.kv_heads * kv.dim_k;
  const int slot = kv_slots[t], page = slot / kv.page_tokens, position = slot % kv.page_tokens;
  const int64_t head_halves = int64_t{kv.page_tokens} * 16 * (kv.tiles_k + kv.tiles_v);
  __half* base = reinterpret_cast<__half*>(pages + page * kv.page_bytes);
  const int block = position / 16;
  if (i < k_width) {
    const int head = i / kv.dim_k, d = i % kv.dim_k;
    const __half value = ToHalf(rows.k[t * rows.row_stride + i]);
    if (kv.v_in_k) {
      base[(int64_t{head} * kv.page_tokens + position) * LatentStride(kv) + d] = value;
      return;
    }
    __half* keys = base + head * head_halves;
    keys[(block * kv.tiles_k + d / 16) * 256 + TileIndex(position % 16, d % 16)] = value;
    return;
  }
  const int j = i - k_width;
  if (kv.v_in_k || j >= kv.kv_heads * kv.dim_v) return;
  const int head = j / kv.dim_v, d = j % kv.dim_v;
  __half* values = base + head * head_halves + int64_t{kv.page_tokens} * 16 * kv.tiles_k;
  values[(block * kv.tiles_v + d / 16) * 256 + TileIndex(d % 16, position % 16)] =
      ToHalf(rows.v[t * rows.row_stride + j]);
}

// A warp per head of a token; grid y: tokens.
__global__ void FuseHeadsKernel(FusedHeads h, std::byte* pages, KvShape kv, const int32_t* kv_slots) {
  __shared__ float heads_of_block[kThreads / 32][kFusedWidthMax];
  AwaitPrevious();
  AllowNext();
  const int64_t t = blockIdx.y, queries = h.query_heads,
                head = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32, width = static_cast<int>(h.width);
  if (head >= queries + 2 * kv.kv_heads) return;
  float* row = h.q + t * h.row_stride + head * width;
  float* values = heads_of_block[threadIdx.x / 32];
  const bool is_query = head < queries, is_value = head >= queries + kv.kv_heads;
  const float* gain = is_value ? nullptr : is_query ? h.q_gain : h.k_gain;
  float squares = 0;
  for (int i = lane; i < width; i += 32) {
    values[i] = row[i];
    squares += values[i] * values[i];
  }
  if (gain != nullptr) {
    const float scale = 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(width) + (is_query ? h.q_eps : h.k_eps));
    for (int i = lane; i < width; i += 32) values[i] = values[i] * scale * gain[i];
  }
  __syncwarp();
  for (int pair = is_value ? static_cast<int>(h.pairs) : lane; pair < h.pairs; pair += 32) {
    float& a = values[h.interleaved ? 2 * pair : pair];
    float& b = values[h.interleaved ? 2 * pair + 1 : pair + h.pairs];
    const float2 turn = h.rope[t * h.pairs + pair];
    const float a0 = a, b0 = b;
    a = a0 * turn.x - b0 * turn.y;
    b = a0 * turn.y + b0 * turn.x;
  }
  __syncwarp();
  const int slot = kv_slots[t], page = slot / kv.page_tokens, position = slot % kv.page_tokens;
  const int64_t kv_head = head - queries - (is_value ? kv.kv_heads : 0);
  __half* tiles = reinterpret_cast<__half*>(pages + page * kv.page_bytes) +
                  kv_head * int64_t{kv.page_tokens} * 16 * (kv.tiles_k + kv.tiles_v) +
                  (is_value ? int64_t{kv.page_tokens} * 16 * kv.tiles_k : 0) +
                  position / 16 * int64_t{is_value ? kv.tiles_v : kv.tiles_k} * 256;
  for (int i = lane; i < width; i += 32) {
    if (!is_value) row[i] = values[i];
    if (is_query) continue;
    const int at = is_value ? TileIndex(i % 16, position % 16) : TileIndex(position % 16, i % 16);
    tiles[i / 16 * 256 + at] = ToHalf(values[i]);
  }
}

__global__ void CopyPagesKernel(std::byte* pages, int64_t page_bytes, PageCopies copies) {
  AwaitPrevious();
  AllowNext();
  const int from = copies.from[blockIdx.y], to = copies.to[blockIdx.y];
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 16;
  if (from == to || i >= page_bytes) return;
  *reinterpret_cast<uint4*>(pages + to * page_bytes + i) =
      *reinterpret_cast<const uint4*>(pages + from * page_bytes + i);
}

}  // namespace

void WriteKv(const Stream& s, std::byte* pages, const KvShape& shape, const KvRows& rows, const int32_t* kv_slots) {
  const int width = shape.kv_heads * (shape.dim_k + (shape.v_in_k ? 0 : shape.dim_v));
  Launch(s, WriteKvKernel, dim3((width + kThreads - 1) / kThreads, static_cast<unsigned>(rows.tokens)), dim3(kThreads),
         0, pages, shape, rows, kv_slots);
}

void FuseHeads(const Stream& s, const FusedHeads& heads, std::byte* pages, const KvShape& shape,
               const int32_t* kv_slots) {
  const int64_t count = heads.query_heads + 2 * shape.kv_heads, per_block = kThreads / 32;
  Launch(s, FuseHeadsKernel,
         dim3(static_cast<unsigned>((count + per_block - 1) / per_block), static_cast<unsigned>(heads.tokens)),
         dim3(kThreads), 0, heads, pages, shape, kv_slots);
}

void CopyPages(const Stream& s, std::byte* pages, int64_t page_bytes, const PageCopies& copies, int count) {
  const auto blocks = static_cast<unsigned>((page_bytes / 16 + kThreads - 1) / kThreads);
  Launch(s, CopyPagesKernel, dim3(blocks, count), dim3(kThreads), 0, pages, page_bytes, copies);
}

}  // namespace conclave::engine::cuda
