// SPDX-License-Identifier: Apache-2.0
// Sizes of a model by its spec alone, as BindWeights would count them over its tensors.
#pragma once

#include "engine/model/model_spec.h"
#include "engine/model/weights.h"

namespace conclave::engine {

// `bytes_per_weight` gives the byte figures; formats differ by tensor in real files, so those are estimates.
ModelSize PlannedSize(const ModelSpec& spec, double bytes_per_weight);

// Bytes of a cached token with elements of `element_bytes`.
int64_t PlannedKvBytesPerToken(const ModelSpec& spec, int64_t element_bytes);

}  // namespace conclave::engine
