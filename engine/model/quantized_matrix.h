// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: one matrix of a quantised checkpoint, put together from its tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/model/quantization.h"
#include "engine/ops/ops.h"

namespace conclave::engine {

// Must live until the weight was made of `source`, whose reader and order it owns.
struct QuantizedMatrix {
  WeightSource source = {};
  std::vector<const CheckpointTensor*> tensors;  // all that it is made of, and what nothing needs to know of it
  std::unique_ptr<const quant::RowReader> reader;
  std::vector<int32_t> order;
};

// The matrix [rows, columns] of `module` ("model.layers.0.mlp.up_proj"); null if its tensors say that it is plain.
// MODEL_FILE_INVALID names the tensor that is missing, misshapen or impossible, UNIMPLEMENTED what is not supported.
absl::StatusOr<std::unique_ptr<QuantizedMatrix>> FindQuantized(const Checkpoint& file, const QuantizationSpec& spec,
                                                               std::string_view module, int64_t rows, int64_t columns);

}  // namespace conclave::engine
