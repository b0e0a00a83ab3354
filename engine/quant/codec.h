// SPDX-License-Identifier: Apache-2.0
// Rows of weights, from file format to float and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/tensor/dtype.h"

namespace conclave::engine::quant {

// Whether DecodeRow knows `dtype`: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS,
// MXFP4, and the group formats (group_blocks.h).
bool CanDecode(DType dtype);

// Decodes one row. out.size() is the number of elements, possible in the format (HasRowsOf); `row` holds
// RowBytes(dtype, out.size()) bytes, any alignment. Bit for bit ggml's values. CHECKs CanDecode(dtype).
void DecodeRow(DType dtype, const std::byte* row, std::span<float> out);

// Encodes one row by simple rounding to the nearest code, for tests and benchmarks: valid blocks, not the best ones.
// `row` receives RowBytes(dtype, values.size()) bytes. CHECKs CanDecode(dtype).
void EncodeRow(DType dtype, std::span<const float> values, std::byte* row);

}  // namespace conclave::engine::quant
