// SPDX-License-Identifier: Apache-2.0
// Products of plain formats with few rows of activations: each weight is read once, in 16-byte pieces, and multiplied
// in f32. Bound by memory.
#include "engine/ops/cuda/device.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kRows = 4;   // of the weight, per warp
constexpr int kAhead = 2;  // 16-byte pieces per row requested before they are used

// A piece's elements as floats.
template <DType kType>
struct Piece {
  static constexpr int kElements = kType == DType::kF32 ? 4 : 8;
  __device__ static void Decode(const uint4& v, float (&out)[kElements]) {
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kType == DType::kF32) {
        out[i] = __uint_as_float(words[i]);
      } else if constexpr (kType == DType::kBF16) {
        out[2 * i] = __uint_as_float(words[i] << 16);
        out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
      } else {
        const float2 f = __half22float2(reinterpret_cast<const __half2&>(words[i]));
        out[2 * i] = f.x;
        out[2 * i + 1] = f.y;
      }
    }
  }
};

struct GemvArgs {
  float* y;
  int64_t y_stride;
  const float* x;
  const uint8_t* w;
  int64_t w_stride;  // elements
  int n, k, m;
  int split;  // warps that share a group of rows, each with its part of the columns
  bool add, aligned;
};

// Elements k .. of a row of x; zero beyond the end.
template <int kElements>
__device__ void LoadX(const GemvArgs& a, int m, int k, float (&x)[kElements]) {
  const float* row = a.x + int64_t{m} * a.k + k;
  if (a.aligned && k + kElements <= a.k) {
#pragma unroll
    for (int j = 0; j < kElements; j += 4) {
      const float4 v = *reinterpret_cast<const float4*>(row + j);
      x[j] = v.x, x[j + 1] = v.y, x[j + 2] = v.z, x[j + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int j = 0; j < kElements; ++j) x[j] = k + j < a.k ? row[j] : 0.0f;
  }
}

template <DType kType, int kM>
__global__ void __launch_bounds__(kThreads) GemvKernel(GemvArgs a) {
  constexpr int kElements = Piece<kType>::kElements, kStep = 32 * kElements;
  constexpr int kBytes = kType == DType::kF32 ? 4 : 2;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int part = warp % a.split, first = (blockIdx.x * (kWarps / a.split) + warp / a.split) * kRows;
  const int stride = a.split * kStep;
  const uint8_t* rows[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) rows[r] = a.w + int64_t{min(first + r, a.n - 1)} * a.w_stride * kBytes;

  uint4 now[kAhead][kRows], next[kAhead][kRows];
  const auto load = [&](int k, uint4(&into)[kAhead][kRows]) {
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int at = k + u * stride;
        into[u][r] = at < a.w_stride ? LoadStreaming(rows[r] + int64_t{at} * kBytes) : make_uint4(0, 0, 0, 0);
      }
    }
  };
  int k = (part * 32 + lane) * kElements;
  load(k, now);
  AwaitPrevious();
  AllowNext();
  float sums[kRows][kM] = {};
  for (; k < a.k; k += kAhead * stride) {
    load(k + kAhead * stride, next);
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      float x[kM][kElements];
#pragma unroll
      for (int m = 0; m < kM; ++m) LoadX(a, min(m, a.m - 1), k + u * stride, x[m]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float w[kElements];
        Piece<kType>::Decode(now[u][r], w);
#pragma unroll
        for (int m = 0; m < kM; ++m) {
#pragma unroll
          for (int j = 0; j < kElements; ++j) sums[r][m] += w[j] * x[m][j];
        }
      }
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) now[u][r] = next[u][r];
    }
  }
  __shared__ float parts[kWarps][kRows * kM];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const float sum = WarpSum(sums[r][m]);
      if (lane == 0) parts[warp][r * kM + m] = sum;
    }
  }
  __syncthreads();
  const int r = lane / kM, m = lane % kM;
  if (part != 0 || lane >= kRows * kM || first + r >= a.n || m >= a.m) return;
  float sum = 0;
  for (int i = 0; i < a.split; ++i) sum += parts[warp + i][lane];
  float* out = a.y + int64_t{m} * a.y_stride + first + r;
  *out = a.add ? *out + sum : sum;
}

// Warps per group of rows: as many as still run at once (16 per multiprocessor), and no more than there are pieces.
int Split(const Stream& s, int64_t n, int64_t k, int elements) {
  const int64_t groups = (n + kRows - 1) / kRows;
  int split = 1;
  while (split < kWarps && groups * split * 2 <= int64_t{s.multiprocessors} * 16 &&
         k >= int64_t{split} * 2 * 32 * elements * kAhead) {
    split *= 2;
  }
  return split;
}

template <DType kType>
void Start(const Stream& s, const Product& p, const WeightPart& part) {
  GemvArgs a = {p.y,
                p.y_stride,
                p.x,
                part.data,
                PlainStride(part.columns),
                static_cast<int>(part.rows),
                static_cast<int>(part.columns),
                static_cast<int>(p.m),
                Split(s, part.rows, part.columns, Piece<kType>::kElements),
                p.add,
                part.columns % 4 == 0};
  const int64_t groups_per_block = kWarps / a.split, rows_per_block = groups_per_block * kRows;
  const dim3 grid(static_cast<unsigned>((part.rows + rows_per_block - 1) / rows_per_block));
  if (p.m == 1) {
    Launch(s, GemvKernel<kType, 1>, grid, dim3(kThreads), 0, a);
  } else {
    Launch(s, GemvKernel<kType, 2>, grid, dim3(kThreads), 0, a);
  }
}

// ---- F32 weights with many rows: tiles of 64 x 64, for small models; exact in f32.

constexpr int kTile = 64, kDepth = 16;

__global__ void __launch_bounds__(256) F32GemmKernel(GemvArgs a) {
  AwaitPrevious();
  AllowNext();
  __shared__ float xs[kDepth][kTile + 1], ws[kDepth][kTile + 1];
  const int m0 = blockIdx.y * kTile, n0 = blockIdx.x * kTile;
  const int tm = threadIdx.x / 16 * 4, tn = threadIdx.x % 16 * 4;
  float sums[4][4] = {};
  for (int k0 = 0; k0 < a.k; k0 += kDepth) {
    for (int i = threadIdx.x; i < kTile * kDepth; i += 256) {
      const int row = i / kDepth, k = i % kDepth;
      const bool inside = k0 + k < a.k;
      xs[k][row] = inside && m0 + row < a.m ? a.x[int64_t{m0 + row} * a.k + k0 + k] : 0.0f;
      ws[k][row] = inside && n0 + row < a.n
                       ? reinterpret_cast<const float*>(a.w)[int64_t{n0 + row} * a.w_stride + k0 + k]
                       : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] += xs[k][tm + i] * ws[k][tn + j];
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      if (m0 + tm + i >= a.m || n0 + tn + j >= a.n) continue;
      float* out = a.y + int64_t{m0 + tm + i} * a.y_stride + n0 + tn + j;
      *out = a.add ? *out + sums[i][j] : sums[i][j];
    }
  }
}

}  // namespace

void PlainGemv(const Stream& s, const Product& p, const WeightPart& part) {
  if (part.dtype == DType::kF32) {
    Start<DType::kF32>(s, p, part);
  } else if (part.dtype == DType::kF16) {
    Start<DType::kF16>(s, p, part);
  } else {
    Start<DType::kBF16>(s, p, part);
  }
}

void F32Gemm(const Stream& s, const Product& p, const WeightPart& part) {
  const GemvArgs a = {p.y,
                      p.y_stride,
                      p.x,
                      part.data,
                      PlainStride(part.columns),
                      static_cast<int>(part.rows),
                      static_cast<int>(part.columns),
                      static_cast<int>(p.m),
                      1,
                      p.add,
                      false};
  Launch(s, F32GemmKernel,
         dim3(static_cast<unsigned>((part.rows + kTile - 1) / kTile), static_cast<unsigned>((p.m + kTile - 1) / kTile)),
         dim3(256), 0, a);
}

}  // namespace conclave::engine::cuda
