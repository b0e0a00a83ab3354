// SPDX-License-Identifier: Apache-2.0
// Weights into and out of their packed layout.
#include "engine/ops/cuda/device.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kThreads = 256;

// A thread packs 8 columns of a row.
__global__ void PackKernel(DType dtype, PackedShape shape, const uint8_t* raw, int64_t row_bytes, int64_t first_row,
                           int64_t rows, int64_t columns, uint8_t* packed) {
  const int64_t eights = columns / 8, i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= rows * eights) return;
  const int64_t row = i / eights;
  PackEight(dtype, shape, raw + row * row_bytes, first_row + row, i % eights * 8, packed);
}

// A thread moves 8 columns of a row, fewer at its end. Memory was zeroed before.
__global__ void PackTilesKernel(const uint8_t* raw, int64_t first_row, int64_t rows, int64_t columns,
                                int64_t column_tiles, uint8_t* packed) {
  const int64_t eights = (columns + 7) / 8, i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= rows * eights) return;
  const int64_t row = i / eights, k = i % eights * 8;
  const auto* from = reinterpret_cast<const uint16_t*>(raw) + row * columns;
  auto* to = reinterpret_cast<uint16_t*>(packed + PlainTileByte(column_tiles, first_row + row, k));
  for (int64_t j = 0; j < 8 && k + j < columns; ++j) to[j] = from[k + j];
}

__device__ float PlainValue(DType dtype, const uint8_t* data, int64_t index) {
  if (dtype == DType::kF32) return reinterpret_cast<const float*>(data)[index];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(data)[index];
  return dtype == DType::kF16 ? __half2float(__ushort_as_half(bits)) : __bfloat162float(__ushort_as_bfloat16(bits));
}

// A thread writes 8 columns of a row.
__global__ void DequantizeKernel(WeightPart part, int64_t begin, int64_t rows, uint16_t* out, int64_t stride) {
  AwaitPrevious();
  AllowNext();
  const int64_t eights = stride / 8, i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= rows * eights) return;
  const int64_t row = i / eights, n = begin + row, k = i % eights * 8;
  uint32_t words[4] = {};
  if (k < part.columns) {
    float values[8] = {};
    if (part.shape.format.code_bits == 0) {
      const int64_t at = n * PlainStride(part.columns) + k;  // rows are zero up to a multiple of 8
      for (int j = 0; j < 8; ++j) values[j] = PlainValue(part.dtype, part.data, at + j);
    } else {
      const ScaleMin s = PackedScale(part.shape, part.data, n, k);  // scales cover 16 columns at least
      for (int j = 0; j < 8; ++j) {
        values[j] = static_cast<float>(PackedCode(part.shape, part.data, n, k + j)) * s.scale + s.min;
      }
    }
    for (int j = 0; j < 4; ++j) words[j] = PackBf162(values[2 * j], values[2 * j + 1]);
  }
  *reinterpret_cast<uint4*>(out + row * stride + k) = make_uint4(words[0], words[1], words[2], words[3]);
}

__global__ void EmbedKernel(float* y, WeightPart part, const int32_t* tokens) {
  AwaitPrevious();
  AllowNext();
  const int64_t t = blockIdx.x, n = tokens[t] - part.first_row;
  if (n < 0 || n >= part.rows) return;
  for (int64_t k = threadIdx.x; k < part.columns; k += kThreads) {
    y[t * part.columns + k] = part.shape.format.code_bits == 0
                                  ? PlainValue(part.dtype, part.data, n * PlainStride(part.columns) + k)
                                  : PackedValue(part.shape, part.data, n, k);
  }
}

unsigned Blocks(int64_t items) { return static_cast<unsigned>((items + kThreads - 1) / kThreads); }

}  // namespace

void PackRows(const Stream& s, DType dtype, const PackedShape& shape, const uint8_t* raw, int64_t row_bytes,
              int64_t first_row, int64_t rows, int64_t columns, uint8_t* packed) {
  Stream alone = s;
  alone.overlap = false;
  Launch(alone, PackKernel, dim3(Blocks(rows * (columns / 8))), dim3(kThreads), 0, dtype, shape, raw, row_bytes,
         first_row, rows, columns, packed);
}

void PackTiles(const Stream& s, const uint8_t* raw, int64_t first_row, int64_t rows, int64_t columns,
               int64_t column_tiles, uint8_t* packed) {
  Stream alone = s;
  alone.overlap = false;
  Launch(alone, PackTilesKernel, dim3(Blocks(rows * ((columns + 7) / 8))), dim3(kThreads), 0, raw, first_row, rows,
         columns, column_tiles, packed);
}

void DequantizeRows(const Stream& s, const WeightPart& part, int64_t begin, int64_t end, uint16_t* out,
                    int64_t stride) {
  Launch(s, DequantizeKernel, dim3(Blocks((end - begin) * (stride / 8))), dim3(kThreads), 0, part, begin, end - begin,
         out, stride);
}

void EmbedRows(const Stream& s, float* y, const WeightPart& part, const int32_t* tokens, int64_t num_tokens) {
  Launch(s, EmbedKernel, dim3(static_cast<unsigned>(num_tokens)), dim3(kThreads), 0, y, part, tokens);
}

}  // namespace conclave::engine::cuda
