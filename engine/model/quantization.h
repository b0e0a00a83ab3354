// SPDX-License-Identifier: Apache-2.0
// What config.json says about quantised weights: quantization_config of AWQ, GPTQ, FP8 and compressed-tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/json.h"

namespace conclave::engine {

// How a matrix that is quantised lies in its tensors; each matrix may also be plain, which its tensors tell.
enum class QuantStorage : uint8_t {
  kPlain,   // none is quantised
  kAwq,     // qweight, qzeros, scales, the gemm layout
  kGptq,    // qweight, qzeros, scales, g_idx
  kPacked,  // weight_packed, weight_scale, weight_zero_point, weight_g_idx: compressed-tensors
  kFp8,     // weight in e4m3 and weight_scale_inv or weight_scale
};

struct QuantizationSpec {
  // Of kFp8: what shares a scale.
  enum class Fp8Scale : uint8_t { kTensor, kRow, kBlock, kTensorOrBlock };

  QuantStorage storage = QuantStorage::kPlain;
  int32_t bits = 0;           // of integer codes: 4 or 8
  int64_t group_columns = 0;  // of integer codes: columns that share a scale; 0: all of a row
  bool symmetric = false;     // kPacked: there are no zero points
  int32_t zero_offset = 0;    // kGptq: added to the zero points stored; 1 in the first version of the format
  bool ordered = false;       // columns are grouped by g_idx, which must be there
  Fp8Scale fp8_scale = Fp8Scale::kTensor;
  int64_t block_rows = 0, block_columns = 0;  // of kBlock
  bool microscaled_experts = false;           // kPlain but for experts in MXFP4, whose tensors tell
  std::vector<std::string> plain_modules;     // said not to be quantised
};

// `config`: config.json. UNIMPLEMENTED names what the program does not know: a method, a width, a layout, a key that
// may change what weights mean; MODEL_FILE_INVALID what is missing or mistyped.
absl::StatusOr<QuantizationSpec> ReadQuantization(const JsonObject& config);

}  // namespace conclave::engine
