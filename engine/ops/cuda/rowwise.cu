// SPDX-License-Identifier: Apache-2.0
// Operations on rows of activations.
#include "engine/ops/cuda/device.cuh"
#include "engine/ops/cuda/grouped.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kNormThreads = 512;

__device__ void PutShadow(const Shadow& shadow, int64_t row, int64_t column, float value) {
  if (shadow.data != nullptr) shadow.data[row * shadow.stride + column] = ToBf16(value);
}

// Zeroes the shadow's row beyond `width`.
__device__ void EndShadowRow(const Shadow& shadow, int64_t row, int64_t width, int threads) {
  if (shadow.data == nullptr) return;
  for (int64_t i = width + threadIdx.x; i < shadow.stride; i += threads) shadow.data[row * shadow.stride + i] = 0;
}

__device__ float BlockSum(float v, float* shared) {
  v = WarpSum(v);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < static_cast<int>(blockDim.x / 32); ++i) sum += shared[i];
  return sum;
}

// Vec: float4 or float. The first kKept pieces of a thread stay in registers between the passes.
template <typename Vec>
__device__ void AddRmsNormRow(float* residual, float* y, const float* x, const float* gain, float eps, int64_t width,
                              const Shadow& shadow, int64_t row) {
  constexpr int kLanes = sizeof(Vec) / sizeof(float), kKept = 4;
  __shared__ float partial[kNormThreads / 32];
  const int64_t pieces = width / kLanes;
  float kept[kKept][kLanes];
  float squares = 0;
  for (int64_t i = threadIdx.x, n = 0; i < pieces; i += kNormThreads, ++n) {
    Vec piece = reinterpret_cast<const Vec*>(residual)[i];
    float* values = reinterpret_cast<float*>(&piece);
    if (x != nullptr) {
      const Vec added = reinterpret_cast<const Vec*>(x)[i];
      for (int j = 0; j < kLanes; ++j) values[j] += reinterpret_cast<const float*>(&added)[j];
      reinterpret_cast<Vec*>(residual)[i] = piece;
    }
#pragma unroll
    for (int j = 0; j < kLanes; ++j) squares += values[j] * values[j];
#pragma unroll
    for (int m = 0; m < kKept; ++m) {
      if (n == m) {
        for (int j = 0; j < kLanes; ++j) kept[m][j] = values[j];
      }
    }
  }
  const float scale = 1.0f / sqrtf(BlockSum(squares, partial) / static_cast<float>(width) + eps);
  const auto put = [&](int64_t i, const float* values) {
    const Vec gains = reinterpret_cast<const Vec*>(gain)[i];
    Vec out;
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      const float value = values[j] * scale * reinterpret_cast<const float*>(&gains)[j];
      reinterpret_cast<float*>(&out)[j] = value;
      PutShadow(shadow, row, i * kLanes + j, value);
    }
    reinterpret_cast<Vec*>(y)[i] = out;
  };
#pragma unroll
  for (int m = 0; m < kKept; ++m) {
    const int64_t i = threadIdx.x + int64_t{m} * kNormThreads;
    if (i < pieces) put(i, kept[m]);
  }
  for (int64_t i = threadIdx.x + int64_t{kKept} * kNormThreads; i < pieces; i += kNormThreads) {
    const Vec piece = reinterpret_cast<const Vec*>(residual)[i];
    put(i, reinterpret_cast<const float*>(&piece));
  }
  EndShadowRow(shadow, row, width, kNormThreads);
}

// y may alias x or the residual: each thread has read its pieces before any are written.
__global__ void __launch_bounds__(kNormThreads)
    AddRmsNormKernel(float* residual, float* y, const float* x, const float* gain, float eps, int64_t width,
                     Shadow shadow) {
  AwaitPrevious();
  AllowNext();
  const int64_t row = blockIdx.x, at = row * width;
  const float* added = x == nullptr ? nullptr : x + at;
  if (width % 4 == 0) {
    AddRmsNormRow<float4>(residual + at, y + at, added, gain, eps, width, shadow, row);
  } else {
    AddRmsNormRow<float>(residual + at, y + at, added, gain, eps, width, shadow, row);
  }
}

template <typename Vec>
__device__ void CombineRow(const CombineArgs& a, int64_t row) {
  const int64_t pieces = a.width / static_cast<int64_t>(sizeof(Vec) / sizeof(float));
  for (int64_t i = threadIdx.x; i < pieces; i += kNormThreads) {
    reinterpret_cast<Vec*>(a.y)[row * pieces + i] = Combined<Vec>(a, row, i);
  }
}

// CombinePairs, and AddRmsNorm of what it wrote: each thread reads what it wrote itself.
__global__ void __launch_bounds__(kNormThreads) CombineAddRmsNormKernel(CombineArgs combine, float* residual, float* y,
                                                                        const float* gain, float eps, Shadow shadow) {
  AwaitPrevious();
  AllowNext();
  const int64_t row = blockIdx.x, width = combine.width, at = row * width;
  if (width % 4 == 0) {
    CombineRow<float4>(combine, row);
    AddRmsNormRow<float4>(residual + at, y + at, combine.y + at, gain, eps, width, shadow, row);
  } else {
    CombineRow<float>(combine, row);
    AddRmsNormRow<float>(residual + at, y + at, combine.y + at, gain, eps, width, shadow, row);
  }
}

// A warp per head.
__global__ void HeadRmsNormKernel(float* x, int64_t row_stride, const float* gain, float eps, int64_t heads,
                                  int64_t width, int64_t total) {
  AwaitPrevious();
  AllowNext();
  const int64_t item = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (item >= total) return;
  float* head = x + item / heads * row_stride + item % heads * width;
  float squares = 0;
  for (int64_t i = lane; i < width; i += 32) squares += head[i] * head[i];
  const float scale = 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(width) + eps);
  for (int64_t i = lane; i < width; i += 32) head[i] = head[i] * scale * gain[i];
}

__global__ void AddBiasKernel(float* y, const float* bias, int64_t width, int64_t total) {
  AwaitPrevious();
  AllowNext();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < total) y[i] += bias[i % width];
}

__device__ float SiluTimes(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

// A thread makes 4 columns of a row; grid y: rows.
__global__ void SwiGluKernel(float* y, const float* gate_up, int64_t width, Shadow shadow) {
  AwaitPrevious();
  AllowNext();
  const int64_t row = blockIdx.y, column = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  const float* gate = gate_up + row * 2 * width + column;
  if (width % 4 == 0 && column < width) {
    const float4 g = *reinterpret_cast<const float4*>(gate), u = *reinterpret_cast<const float4*>(gate + width);
    const float4 v = make_float4(SiluTimes(g.x, u.x), SiluTimes(g.y, u.y), SiluTimes(g.z, u.z), SiluTimes(g.w, u.w));
    *reinterpret_cast<float4*>(y + row * width + column) = v;
    if (shadow.data != nullptr) {
      *reinterpret_cast<uint2*>(shadow.data + row * shadow.stride + column) =
          make_uint2(PackBf162(v.x, v.y), PackBf162(v.z, v.w));
    }
  } else {
    for (int j = 0; j < 4 && column + j < width; ++j) {
      const float v = SiluTimes(gate[j], gate[width + j]);
      y[row * width + column + j] = v;
      PutShadow(shadow, row, column + j, v);
    }
  }
  if (blockIdx.x == 0) EndShadowRow(shadow, row, width, kThreads);
}

__global__ void SigmoidGateKernel(float* y, const float* gate, int64_t width, int64_t total) {
  AwaitPrevious();
  AllowNext();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < total) y[i] *= 1.0f / (1.0f + expf(-gate[i / width]));
}

// y and the shadow may each be absent; rows null: in order.
__global__ void CopyRowsKernel(float* y, const float* x, const int32_t* rows, int64_t width, Shadow shadow) {
  AwaitPrevious();
  AllowNext();
  const int64_t row = blockIdx.y, i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < width) {
    const float value = x[(rows == nullptr ? row : rows[row]) * width + i];
    if (y != nullptr) y[row * width + i] = value;
    PutShadow(shadow, row, i, value);
  }
  if (blockIdx.x == 0) EndShadowRow(shadow, row, width, kThreads);
}

__global__ void RopeTableKernel(float2* table, const int32_t* positions, const float* frequency, float magnitude,
                                int64_t pairs, int64_t total) {
  AwaitPrevious();
  AllowNext();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= total) return;
  double sine, cosine;
  sincos(static_cast<double>(frequency[i % pairs]) * positions[i / pairs], &sine, &cosine);
  table[i] = make_float2(static_cast<float>(cosine * magnitude), static_cast<float>(sine * magnitude));
}

__global__ void RotateKernel(RopeRows r, const float2* table) {
  AwaitPrevious();
  AllowNext();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= r.tokens * r.heads * r.pairs) return;
  const int64_t pair = i % r.pairs, head = i / r.pairs % r.heads, t = i / r.pairs / r.heads;
  float* x = r.x + t * r.row_stride + head * r.width;
  float& a = x[r.interleaved ? 2 * pair : pair];
  float& b = x[r.interleaved ? 2 * pair + 1 : pair + r.pairs];
  const float2 turn = table[t * r.pairs + pair];
  const float a0 = a, b0 = b;
  a = a0 * turn.x - b0 * turn.y;
  b = a0 * turn.y + b0 * turn.x;
}

unsigned Blocks(int64_t items) { return static_cast<unsigned>((items + kThreads - 1) / kThreads); }

}  // namespace

void AddRmsNormRows(const Stream& s, float* residual, float* y, const float* x, const float* gain, float eps,
                    int64_t rows, int64_t width, const Shadow& shadow) {
  Launch(s, AddRmsNormKernel, dim3(static_cast<unsigned>(rows)), dim3(kNormThreads), 0, residual, y, x, gain, eps,
         width, shadow);
}

void CombineAddRmsNormRows(const Stream& s, const CombineArgs& combine, float* residual, float* y, const float* gain,
                           float eps, const Shadow& shadow) {
  Launch(s, CombineAddRmsNormKernel, dim3(static_cast<unsigned>(combine.tokens)), dim3(kNormThreads), 0, combine,
         residual, y, gain, eps, shadow);
}

void HeadRmsNormRows(const Stream& s, float* x, int64_t row_stride, const float* gain, float eps, int64_t rows,
                     int64_t heads, int64_t width) {
  Launch(s, HeadRmsNormKernel, dim3(Blocks(rows * heads * 32)), dim3(kThreads), 0, x, row_stride, gain, eps, heads,
         width, rows * heads);
}

void AddBiasRows(const Stream& s, float* y, const float* bias, int64_t rows, int64_t width) {
  Launch(s, AddBiasKernel, dim3(Blocks(rows * width)), dim3(kThreads), 0, y, bias, width, rows * width);
}

void SwiGluRows(const Stream& s, float* y, const float* gate_up, int64_t rows, int64_t width, const Shadow& shadow) {
  Launch(s, SwiGluKernel, dim3(Blocks((width + 3) / 4), static_cast<unsigned>(rows)), dim3(kThreads), 0, y, gate_up,
         width, shadow);
}

void SigmoidGateRows(const Stream& s, float* y, const float* gate, int64_t rows, int64_t width) {
  Launch(s, SigmoidGateKernel, dim3(Blocks(rows * width)), dim3(kThreads), 0, y, gate, width, rows * width);
}

void GatherRowsOf(const Stream& s, float* y, const float* x, const int32_t* rows, int64_t num_rows, int64_t width,
                  const Shadow& shadow) {
  Launch(s, CopyRowsKernel, dim3(Blocks(width), static_cast<unsigned>(num_rows)), dim3(kThreads), 0, y, x, rows, width,
         shadow);
}

void MakeShadow(const Stream& s, const float* x, int64_t rows, int64_t width, const Shadow& shadow) {
  GatherRowsOf(s, nullptr, x, nullptr, rows, width, shadow);
}

void RopeTable(const Stream& s, float2* table, const int32_t* positions, const float* frequency, float magnitude,
               int64_t tokens, int64_t pairs) {
  Launch(s, RopeTableKernel, dim3(Blocks(tokens * pairs)), dim3(kThreads), 0, table, positions, frequency, magnitude,
         pairs, tokens * pairs);
}

void Rotate(const Stream& s, const RopeRows& rows, const float2* table) {
  Launch(s, RotateKernel, dim3(Blocks(rows.tokens * rows.heads * rows.pairs)), dim3(kThreads), 0, rows, table);
}

}  // namespace conclave::engine::cuda
