// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/weight_formats.h"

namespace conclave::engine::cpu {
namespace {

// In the order of WeightFormat.
constexpr DType kFormats[] = {
    DType::kF32,       DType::kF16,      DType::kBF16,      DType::kQ4_0,    DType::kQ4_1,     DType::kQ5_0,
    DType::kQ5_1,      DType::kQ8_0,     DType::kQ2_K,      DType::kQ3_K,    DType::kQ4_K,     DType::kQ5_K,
    DType::kQ6_K,      DType::kIQ4_NL,   DType::kIQ4_XS,    DType::kMXFP4,   DType::kInt4_G32, DType::kInt4_G64,
    DType::kInt4_G128, DType::kInt8_G32, DType::kInt8_G128, DType::kFp8_G128};

}  // namespace

std::optional<WeightFormat> KernelFormat(DType dtype) {
  for (size_t i = 0; i < std::size(kFormats); ++i) {
    if (kFormats[i] == dtype) return static_cast<WeightFormat>(i);
  }
  return std::nullopt;
}

DType FileFormat(WeightFormat format) { return kFormats[static_cast<size_t>(format)]; }

}  // namespace conclave::engine::cpu
