// SPDX-License-Identifier: Apache-2.0
// The kernels, as functions that enqueue them. All pointers are device memory; row-major; nothing synchronises.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "engine/ops/cuda/packed_layout.h"
#include "engine/ops/cuda/step_plan.h"

namespace conclave::engine::cuda {

// Where and how kernels start. `overlap`: a kernel's launch may begin while the one before it ends (sm_90).
struct Stream {
  cudaStream_t stream;
  bool overlap;
  bool hopper;  // sm_90: kernels compiled for exactly that
  int multiprocessors;
  int64_t block_shared_bytes_max;
};

// A copy of f32 rows as bf16 for the matrix units, written by whoever writes the rows. Rows of `stride` elements, zero
// beyond the width. Empty: not wanted.
struct Shadow {
  uint16_t* data = nullptr;
  int64_t stride = 0;
};

// One format's rows of a weight.
struct WeightPart {
  DType dtype;
  int64_t first_row, rows, columns;
  const uint8_t* data;
  PackedShape shape;  // of block formats
};

// ---- Weights (pack.cu)
// Rows [first_row, first_row + rows) of a packed matrix from file rows at `raw`.
void PackRows(const Stream& s, DType dtype, const PackedShape& shape, const uint8_t* raw, int64_t row_bytes,
              int64_t first_row, int64_t rows, int64_t columns, uint8_t* packed);
// The same of a 16-bit plain format, in tiles (PlainTileByte).
void PackTiles(const Stream& s, const uint8_t* raw, int64_t first_row, int64_t rows, int64_t columns,
               int64_t column_tiles, uint8_t* packed);
// Rows [begin, end) of any part as bf16, rows of `stride` elements, zero beyond the columns.
void DequantizeRows(const Stream& s, const WeightPart& part, int64_t begin, int64_t end, uint16_t* out, int64_t stride);
// y[t] = row tokens[t] of the table, f32; rows of other parts are left alone.
void EmbedRows(const Stream& s, float* y, const WeightPart& part, const int32_t* tokens, int64_t num_tokens);

// ---- Products (gemv.cu, quant_gemv.cu, f32_gemm.cu). y: rows of `y_stride`, this part's columns first.
struct Product {
  float* y;
  int64_t y_stride;
  const float* x;  // [M, K]
  Shadow shadow;   // of x, where the kernel wants it
  int64_t m;
  bool add;
};
inline constexpr int kGemvRowsMax = 2;       // of plain formats
inline constexpr int kQuantGemvRowsMax = 8;  // of block formats
inline constexpr int kQuantGemmRowsMax = 64;
inline constexpr int64_t kQuantGemmPartialElements = int64_t{8} << 20;
void PlainGemv(const Stream& s, const Product& p, const WeightPart& part);
void QuantGemv(const Stream& s, const Product& p, const WeightPart& part);
// partial: room for the sums of blocks that divide the columns.
void QuantGemm(const Stream& s, const Product& p, const WeightPart& part, float* partial, int64_t partial_elements);
void F32Gemm(const Stream& s, const Product& p, const WeightPart& part);
void MakeShadow(const Stream& s, const float* x, int64_t rows, int64_t width, const Shadow& shadow);

// ---- Rows (rowwise.cu)
void AddRmsNormRows(const Stream& s, float* residual, float* y, const float* x, const float* gain, float eps,
                    int64_t rows, int64_t width, const Shadow& shadow);
void HeadRmsNormRows(const Stream& s, float* x, int64_t row_stride, const float* gain, float eps, int64_t rows,
                     int64_t heads, int64_t width);
void AddBiasRows(const Stream& s, float* y, const float* bias, int64_t rows, int64_t width);
void SwiGluRows(const Stream& s, float* y, const float* gate_up, int64_t rows, int64_t width, const Shadow& shadow);
void SigmoidGateRows(const Stream& s, float* y, const float* gate, int64_t rows, int64_t width);
void GatherRowsOf(const Stream& s, float* y, const float* x, const int32_t* rows, int64_t num_rows, int64_t width,
                  const Shadow& shadow);
// table: [T, pairs] (cosine, sine) of position * frequency, times magnitude.
void RopeTable(const Stream& s, float2* table, const int32_t* positions, const float* frequency, float magnitude,
               int64_t tokens, int64_t pairs);
struct RopeRows {
  float* x;
  int64_t row_stride, tokens, heads, width, pairs;
  bool interleaved;
};
void Rotate(const Stream& s, const RopeRows& rows, const float2* table);

// ---- Keys and values (kv.cu). A page: per KV head its keys' tiles, then its values' tiles, f16. A tile is 16
// positions by 16 elements in the order of an mma operand, so that a warp reads it with one 16-byte load per lane.
struct KvShape {
  int32_t kv_heads, dim_k, dim_v, page_tokens;
  int32_t tiles_k, tiles_v;  // of 16 elements
  bool v_in_k;
  int64_t page_bytes;
};
// With v_in_k a page is, per KV head, the keys of its positions as rows of this many halves, and nothing else.
CONCLAVE_HD int LatentStride(const KvShape& kv) { return kv.tiles_k * 16; }
struct KvRows {
  const float *k, *v;  // [T, G, Dk|Dv]
  int64_t row_stride, tokens;
};
void WriteKv(const Stream& s, std::byte* pages, const KvShape& shape, const KvRows& rows, const int32_t* kv_slots);
// Norms (each may be absent) and rotation of the heads of q and k, and WriteKv, in one: the same numbers bit for bit.
// The rows are q | k | v of equal width; afterwards the rows of k are as after Rotate.
struct FusedHeads {
  float* q;  // [T, H + 2 G, width]
  int64_t row_stride, tokens, query_heads, width, pairs;
  bool interleaved;
  const float *q_gain, *k_gain;
  float q_eps, k_eps;
  const float2* rope;
};
inline constexpr int64_t kFusedWidthMax = 256;
void FuseHeads(const Stream& s, const FusedHeads& heads, std::byte* pages, const KvShape& shape,
               const int32_t* kv_slots);
inline constexpr int kCopiedPagesPerLaunch = 128;
struct PageCopies {
  int32_t from[kCopiedPagesPerLaunch], to[kCopiedPagesPerLaunch];
};
void CopyPages(const Stream& s, std::byte* pages, int64_t page_bytes, const PageCopies& copies, int count);

// ---- Attention (attention_*.cu)
inline constexpr int kHeadElementsMax = 256;
inline constexpr int kLatentElementsMax = 576;  // of a key; with v_in_k
inline constexpr int kValueElementsMax = 512;
struct AttentionArgs {
  float* y;        // [T, H, Dv]
  const float* q;  // [T, H, Dk], rows of q_stride
  int64_t q_stride;
  const std::byte* pages;
  KvShape kv;
  int32_t group, tokens;
  float scale_log2;     // scale * log2(e)
  int32_t window;       // 0: all
  const float* sinks;   // ? [H]
  const int32_t* step;  // the step's block
  StepOffsets offsets;
  int32_t narrow_items, wide_items, trunk_items;  // room
  float* partial_values;                          // [partial rows, Dv]
  float2* partial_sums;                           // [partial rows]: largest logit, sum
  Shadow shadow;                                  // of y
};
void AttendNarrow(const Stream& s, const AttentionArgs& args);
void AttendWide(const Stream& s, const AttentionArgs& args);
// Both, with v_in_k. Shared memory of a block: what the device must offer.
void AttendLatent(const Stream& s, const AttentionArgs& args);
int64_t LatentSharedBytes(const KvShape& kv);
// What AttendTrunk takes: the width of heads, and shared memory of a block that the device must offer.
inline constexpr int kTrunkHeadElementsMax = 128;
inline constexpr int64_t kTrunkSharedBytes = 128 << 10;
void AttendTrunk(const Stream& s, const AttentionArgs& args);
// Tokens with partial results; and the shadow of all.
void MergePartials(const Stream& s, const AttentionArgs& args);

}  // namespace conclave::engine::cuda
