// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: mixtures of experts and latent attention from a config.json, by class of transformers.
#pragma once

#include "absl/status/status.h"
#include "engine/format/json.h"
#include "engine/model/model_spec.h"
#include "engine/model/rope.h"

namespace conclave::engine {

// Each sets spec->experts and expert_layers; sizes were read.
absl::Status ReadMixtralExperts(const JsonObject& config, ModelSpec* spec);
absl::Status ReadQwen2Experts(const JsonObject& config, ModelSpec* spec);
absl::Status ReadQwen3Experts(const JsonObject& config, ModelSpec* spec);
absl::Status ReadOlmoeExperts(const JsonObject& config, ModelSpec* spec);
absl::Status ReadDeepseekV2Experts(const JsonObject& config, ModelSpec* spec);
absl::Status ReadDeepseekV3Experts(const JsonObject& config, ModelSpec* spec);
absl::Status ReadGlm4Experts(const JsonObject& config, ModelSpec* spec);
// And attention's sinks.
absl::Status ReadGptOssExperts(const JsonObject& config, ModelSpec* spec);

// Sets spec->latent and what follows from it; `rope` has the scaling that goes into attention's scale.
absl::Status ReadHfLatentWidths(const JsonObject& config, ModelSpec* spec);
void SetLatentScale(const RopeParameters& rope, ModelSpec* spec);

}  // namespace conclave::engine
