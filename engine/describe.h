// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: what a ModelInfo says of sizes and costs.
#pragma once

#include "engine/costs.h"
#include "engine/engine.h"
#include "engine/model/model_spec.h"
#include "engine/model/weights.h"

namespace conclave::engine {

// All but what only a loaded model has: name where the checkpoint has none, revision, kernel, chat template, context.
ModelInfo DescribeSizes(const ModelSpec& spec, const ModelSize& size, const CostModel& costs);

}  // namespace conclave::engine
