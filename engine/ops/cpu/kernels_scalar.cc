// SPDX-License-Identifier: Apache-2.0
// The `scalar` kernels: activations, keys and values stay f32; weights are read in place, each row decoded once for all
// rows of activations.
#include <cstring>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/weight_formats.h"
#include "engine/quant/codec.h"

namespace conclave::engine::cpu {
namespace {

#include "engine/ops/cpu/simd_scalar.h"
//
#include "engine/ops/cpu/elementwise_inl.h"
//
#include "engine/ops/cpu/attention_inl.h"

// Rows that share each load of the weights.
constexpr int64_t kRows = 2;

// sum[r] = x[r] . w for `rows` <= kRows rows, each in sixteen interleaved partial sums.
template <int kCount>
void Dots(const float* x, int64_t x_stride, const float* w, int64_t k, float* sum) {
  F32x16 partial[kCount];
  for (int r = 0; r < kCount; ++r) partial[r] = Zero();
  int64_t i = 0;
  for (; i + 16 <= k; i += 16) {
    const F32x16 weights = Load(w + i);
    for (int r = 0; r < kCount; ++r) partial[r] = Fma(Load(x + r * x_stride + i), weights, partial[r]);
  }
  if (i < k) {
    const F32x16 weights = LoadN(w + i, k - i);
    for (int r = 0; r < kCount; ++r) partial[r] = Fma(LoadN(x + r * x_stride + i, k - i), weights, partial[r]);
  }
  for (int r = 0; r < kCount; ++r) sum[r] = ReduceAdd(partial[r]);
}

void Gemm(const GemmArgs& a) {
  const DType dtype = FileFormat(a.format);
  const int64_t row_bytes = a.group_bytes / kGroupColumns;
  const int64_t end = a.group_end * kGroupColumns < a.columns ? a.group_end * kGroupColumns : a.columns;
  for (int64_t n = a.group_begin * kGroupColumns; n < end; ++n) {
    float* w = a.scratch;
    quant::DecodeRow(dtype, a.weights + n * row_bytes, {w, static_cast<size_t>(a.k)});
    if (a.order != nullptr) {
      w += a.k;
      for (int64_t i = 0; i < a.k; ++i) w[a.order[i]] = a.scratch[i];
    }
    for (int64_t m = a.m_begin; m < a.m_end;) {
      float sum[kRows];
      const float* x = a.x + m * a.x_stride;
      const int64_t count = a.m_end - m >= kRows ? kRows : 1;
      if (count == kRows) {
        Dots<kRows>(x, a.x_stride, w, a.k, sum);
      } else {
        Dots<1>(x, a.x_stride, w, a.k, sum);
      }
      for (int64_t r = 0; r < count; ++r) {
        float* y = a.y + (m + r) * a.y_stride + n;
        *y = a.accumulate ? *y + sum[r] : sum[r];
      }
      m += count;
    }
  }
}

constexpr Kernels kTable = {
    .name = "scalar",
    .repacks = false,
    .kv_element_bytes = sizeof(KvElement),
    .quantize_row = nullptr,
    .gemm = Gemm,
    .rms_norm = RmsNormRow,
    .add = AddRow,
    .add_scaled = AddScaledRow,
    .swiglu = SwiGluRow,
    .rope_interleaved = RopeInterleavedHead,
    .rope_half_split = RopeHalfSplitHead,
    .kv_write = KvWriteHead,
    .attend_scratch_floats = AttendScratchFloats,
    .attend = AttendTask,
    .merge = MergeRow,
};

}  // namespace

const Kernels& ScalarKernels() { return kTable; }

}  // namespace conclave::engine::cpu
