// SPDX-License-Identifier: Apache-2.0
// Element and block formats. A block format packs `block_elements` consecutive elements of a row into `block_bytes`.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace conclave::engine {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kF8_E4M3,  // OCP 8-bit float without infinities
  // GGUF block formats (layouts: engine/quant).
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,  // OCP microscaling: 4-bit floats with a power of two per 32
  // Group formats: what AWQ, GPTQ, FP8 and compressed-tensors checkpoints are read into, row by row.
  kInt4_G32,
  kInt4_G64,
  kInt4_G128,
  kInt8_G32,
  kInt8_G128,
  kFp8_G128,
};

struct DTypeTraits {
  std::string_view name;   // as GGUF and Hugging Face write it: "F32", "Q4_K"
  int32_t block_elements;  // 1 for plain formats
  int32_t block_bytes;
  bool cut_tail = false;  // a row's last block may hold fewer elements, each of one byte
};

const DTypeTraits& Traits(DType dtype);
inline std::string_view Name(DType dtype) { return Traits(dtype).name; }
std::optional<DType> ParseDType(std::string_view name);

// Whether rows of `elements` are possible: whole blocks, or the format's last block may be cut.
bool HasRowsOf(DType dtype, int64_t elements);
// Bytes of a row of `elements`; HasRowsOf(dtype, elements).
int64_t RowBytes(DType dtype, int64_t elements);

}  // namespace conclave::engine
