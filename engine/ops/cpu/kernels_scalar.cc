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

float Dot(const float* a, const float* b, int64_t n) {
  F32x16 sum = Zero();
  for (int64_t i = 0; i < n; i += 16) sum = Fma(LoadN(a + i, n - i), LoadN(b + i, n - i), sum);
  return ReduceAdd(sum);
}

void Gemm(const GemmArgs& a) {
  const DType dtype = FileFormat(a.format);
  const int64_t row_bytes = a.group_bytes / kGroupColumns;
  const int64_t end = a.group_end * kGroupColumns < a.columns ? a.group_end * kGroupColumns : a.columns;
  for (int64_t n = a.group_begin * kGroupColumns; n < end; ++n) {
    quant::DecodeRow(dtype, a.weights + n * row_bytes, {a.scratch, static_cast<size_t>(a.k)});
    for (int64_t m = a.m_begin; m < a.m_end; ++m) {
      float* y = a.y + m * a.y_stride + n;
      const float dot = Dot(a.x + m * a.x_stride, a.scratch, a.k);
      *y = a.accumulate ? *y + dot : dot;
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
