// SPDX-License-Identifier: Apache-2.0
// Sizes of a model by its spec alone, as BindWeights would count them over its tensors.
#pragma once

#include "absl/status/statusor.h"
#include "engine/format/json.h"
#include "engine/model/model_spec.h"
#include "engine/model/partition.h"
#include "engine/model/weights.h"

namespace conclave::engine {

// Bytes per weight, scales and zero points included.
struct PlannedWidths {
  double plain = 2;      // embedding, head, norms, biases, routers
  double attention = 2;  // the layers' matrices
  double feed_forward = 2;
  double shared = 2;  // the shared expert
  double experts = 2;
};

// What config.json says: its dtype (absent: 16 bits) and how matrices are quantised (spec.quantization). Exceptions are
// heard where they leave plain all attention, shared experts or experts; single modules are too few to count. Errors as
// of ReadHfSpec.
absl::StatusOr<PlannedWidths> WidthsOf(const JsonObject& config, const QuantizationSpec& quantization);

// Formats differ by tensor in real files, so byte figures are estimates.
ModelSize PlannedSize(const ModelSpec& spec, const PlannedWidths& widths);

// Bytes of the weights that the rank holds.
int64_t PlannedRankBytes(const ModelSpec& spec, const Partition& part, const PlannedWidths& widths);

// Bytes of a cached token with elements of `element_bytes`.
int64_t PlannedKvBytesPerToken(const ModelSpec& spec, int64_t element_bytes);

}  // namespace conclave::engine
