// SPDX-License-Identifier: Apache-2.0
// One task of a matrix product over a weight that may have parts of several formats.
#pragma once

#include <cstdint>

#include "engine/ops/cpu/cpu_weight.h"
#include "engine/ops/cpu/kernels.h"

namespace conclave::engine::cpu {

// Rows of activations that stay in a core's cache while the weights pass.
inline constexpr int64_t kRowBlock = 192;

struct GemmOperands {
  const float* x;  // [M, K], rows x_stride elements apart; for parts of float formats and for scalar
  int64_t x_stride;
  const ActivationBlock* blocks;  // [inputs, M, K / 32], one per order of the weight; for parts of block formats
  int64_t input_blocks;           // from one input to the next
  float* y;                       // [M, N], rows y_stride elements apart
  int64_t y_stride;
  bool accumulate;
};

// Columns of groups group_begin..group_end of all parts (each part begins a group) by rows m_begin..m_end.
struct GemmRange {
  int64_t group_begin, group_end, m_begin, m_end;
};

void RunGemm(const Kernels& kernels, const CpuWeight& w, const GemmOperands& operands, const GemmRange& range,
             float* scratch);

}  // namespace conclave::engine::cpu
