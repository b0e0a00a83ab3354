// SPDX-License-Identifier: Apache-2.0
#include "engine/model/model_spec.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "engine/format/gguf.h"
#include "engine/format/hf_checkpoint.h"
#include "engine/model/gguf_spec.h"
#include "engine/model/hf_spec.h"

namespace conclave::engine {

float ModelSpec::attention_scale() const {
  return latent ? latent->scale : 1.0f / std::sqrt(static_cast<float>(head_dim));
}

int32_t ModelSpec::num_expert_layers() const {
  return static_cast<int32_t>(std::count(expert_layers.begin(), expert_layers.end(), uint8_t{1}));
}

int32_t ModelSpec::num_window_layers() const {
  return static_cast<int32_t>(std::count(window_layers.begin(), window_layers.end(), uint8_t{1}));
}

int32_t ModelSpec::dense_feed_forward() const {
  const bool dense_layers = num_expert_layers() < layers;
  return std::max(dense_layers ? feed_forward : 0, experts ? experts->shared_feed_forward : 0);
}

void DropUnusedExperts(ModelSpec* spec) {
  if (spec->num_expert_layers() > 0) return;
  spec->experts.reset();
  spec->expert_layers.clear();
}

void SetWindow(int64_t window, absl::FunctionRef<bool(int32_t layer)> has, ModelSpec* spec) {
  spec->window = 0;
  spec->window_layers.clear();
  if (window >= spec->context_tokens) return;
  for (int32_t layer = 0; layer < spec->layers; ++layer) spec->window_layers.push_back(has(layer) ? 1 : 0);
  if (spec->num_window_layers() == 0) {
    spec->window_layers.clear();
  } else {
    spec->window = static_cast<int32_t>(window);
  }
}

absl::Status CheckRouter(std::string_view path, const RouterSpec& router) {
  if (router.groups < 1 || router.experts % router.groups != 0 || router.top_groups < 1 ||
      router.top_groups > router.groups) {
    return ModelFileInvalid(path, "{} experts in {} groups of which {} are kept cannot be", router.experts,
                            router.groups, router.top_groups);
  }
  const int32_t choosable = router.experts / router.groups * router.top_groups;
  if (router.top_k < 1 || router.top_k > choosable) {
    return ModelFileInvalid(path, "{} experts per token cannot be chosen from {}", router.top_k, choosable);
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelSpec> ReadModelSpec(const Checkpoint& checkpoint) {
  if (checkpoint.gguf() != nullptr) return ReadGgufSpec(*checkpoint.gguf());
  CONCLAVE_CHECK(checkpoint.hf() != nullptr);
  return ReadHfSpec(*checkpoint.hf());
}

}  // namespace conclave::engine
