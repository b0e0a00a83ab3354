// SPDX-License-Identifier: Apache-2.0
// The `avx512` kernels. Compiled with AVX-512 flags: nothing here may reach another translation unit (kernels.h).
#include <immintrin.h>

#include "engine/ops/cpu/kernels.h"

namespace conclave::engine::cpu {
namespace {

#include "engine/ops/cpu/simd_avx512.h"
//
#include "engine/ops/cpu/elementwise_inl.h"
//
#include "engine/ops/cpu/attention_inl.h"
//
#include "engine/ops/cpu/gemm_formats_inl.h"
//
#include "engine/ops/cpu/gemm_groups_inl.h"
//
#include "engine/ops/cpu/gemm_inl.h"

constexpr Kernels kTable = PackedKernels("avx512");

}  // namespace

const Kernels& Avx512Kernels() { return kTable; }

}  // namespace conclave::engine::cpu
