// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: the sampling that a model's makers recommend.
#pragma once

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/format/hf_checkpoint.h"

namespace conclave::engine {

// From generation_config.json; the defaults where there is none or it leaves a value out. do_sample: false is greedy.
// FAILED_PRECONDITION MODEL_FILE_INVALID for a value that cannot be.
absl::StatusOr<Sampling> ReadGenerationConfig(const HfDirectory& directory);

}  // namespace conclave::engine
