// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/cpu_gemm.h"

#include <algorithm>

namespace conclave::engine::cpu {

void RunGemm(const Kernels& kernels, const CpuWeight& w, const GemmOperands& operands, const GemmRange& range,
             float* scratch) {
  int64_t part_begin = 0;
  for (const WeightPart& part : w.parts) {
    const int64_t groups = (part.rows + kGroupColumns - 1) / kGroupColumns;
    const int64_t begin = std::max(range.group_begin - part_begin, int64_t{0});
    const int64_t end = std::min(range.group_end - part_begin, groups);
    part_begin += groups;
    if (begin >= end) continue;
    kernels.gemm({.format = part.format,
                  .weights = part.data,
                  .group_bytes = part.group_bytes,
                  .columns = part.rows,
                  .k = w.columns,
                  .group_begin = begin,
                  .group_end = end,
                  .m_begin = range.m_begin,
                  .m_end = range.m_end,
                  .x = operands.x,
                  .x_stride = operands.x_stride,
                  .blocks = operands.blocks + static_cast<int64_t>(part.input) * operands.input_blocks,
                  .order = w.orders[part.input],
                  .y = operands.y + part.first_row,
                  .y_stride = operands.y_stride,
                  .accumulate = operands.accumulate,
                  .scratch = scratch});
  }
}

}  // namespace conclave::engine::cpu
