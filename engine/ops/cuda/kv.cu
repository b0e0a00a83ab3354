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
  AllowNext();
  AwaitPrevious();
  const int64_t t = blockIdx.y;
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x), k_width = kv.kv_heads * kv.dim_k;
  const int slot = kv_slots[t], page = slot / kv.page_tokens, position = slot % kv.page_tokens;
  const int64_t head_halves = int64_t{kv.page_tokens} * 16 * (kv.tiles_k + kv.tiles_v);
  __half* base = reinterpret_cast<__half*>(pages + page * kv.page_bytes);
  const int block = position / 16;
  if (i < k_width) {
    const int head = i / kv.dim_k, d = i % kv.dim_k;
    const __half value = ToHalf(rows.k[t * rows.row_stride + i]);
    __half* keys = base + head * head_halves;
    keys[(block * kv.tiles_k + d / 16) * 256 + TileIndex(position % 16, d % 16)] = value;
    if (kv.v_in_k && d < kv.dim_v) {
      __half* values = keys + int64_t{kv.page_tokens} * 16 * kv.tiles_k;
      values[(block * kv.tiles_v + d / 16) * 256 + TileIndex(d % 16, position % 16)] = value;
    }
    return;
  }
  const int j = i - k_width;
  if (kv.v_in_k || j >= kv.kv_heads * kv.dim_v) return;
  const int head = j / kv.dim_v, d = j % kv.dim_v;
  __half* values = base + head * head_halves + int64_t{kv.page_tokens} * 16 * kv.tiles_k;
  values[(block * kv.tiles_v + d / 16) * 256 + TileIndex(d % 16, position % 16)] =
      ToHalf(rows.v[t * rows.row_stride + j]);
}

__global__ void CopyPagesKernel(std::byte* pages, int64_t page_bytes, PageCopies copies) {
  AllowNext();
  AwaitPrevious();
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

void CopyPages(const Stream& s, std::byte* pages, int64_t page_bytes, const PageCopies& copies, int count) {
  const auto blocks = static_cast<unsigned>((page_bytes / 16 + kThreads - 1) / kThreads);
  Launch(s, CopyPagesKernel, dim3(blocks, count), dim3(kThreads), 0, pages, page_bytes, copies);
}

}  // namespace conclave::engine::cuda
