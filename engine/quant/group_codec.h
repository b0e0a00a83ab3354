// SPDX-License-Identifier: Apache-2.0
// Internal to engine/quant: DecodeRow and EncodeRow of the group formats.
#pragma once

#include <cstddef>
#include <span>

#include "engine/tensor/dtype.h"

namespace conclave::engine::quant {

bool IsGroupFormat(DType dtype);
// CHECK IsGroupFormat(dtype).
void DecodeGroups(DType dtype, const std::byte* row, std::span<float> out);
void EncodeGroups(DType dtype, std::span<const float> values, std::byte* row);

}  // namespace conclave::engine::quant
