// SPDX-License-Identifier: Apache-2.0
// Between the file's formats and the kernels' list of them.
#pragma once

#include <optional>

#include "engine/ops/cpu/kernels.h"
#include "engine/tensor/dtype.h"

namespace conclave::engine::cpu {

std::optional<WeightFormat> KernelFormat(DType dtype);
DType FileFormat(WeightFormat format);

// Whether a format's matrices are multiplied with activations rounded to 8 bits.
inline bool IsBlockFormat(WeightFormat format) {
  return format != WeightFormat::kF32 && format != WeightFormat::kF16 && format != WeightFormat::kBF16 &&
         format != WeightFormat::kFp8_G128;
}

}  // namespace conclave::engine::cpu
