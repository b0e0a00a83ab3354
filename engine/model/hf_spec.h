// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: a ModelSpec from Hugging Face's config.json.
#pragma once

#include "absl/status/statusor.h"
#include "engine/format/hf_checkpoint.h"
#include "engine/format/json.h"
#include "engine/model/model_spec.h"

namespace conclave::engine {

// A config is read by the rules of its model_type's class in transformers: the keys which that class reads, with its
// defaults. Keys that it does not read change nothing.
absl::StatusOr<ModelSpec> ReadHfSpec(const JsonDocument& config);
// For weights that are to be loaded: also how they are quantised. What a model needs can be said of any.
absl::StatusOr<ModelSpec> ReadHfSpec(const HfDirectory& directory);

}  // namespace conclave::engine
