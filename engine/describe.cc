// SPDX-License-Identifier: Apache-2.0
#include "engine/describe.h"

#include <filesystem>

#include "common/file.h"
#include "common/status.h"
#include "engine/format/checkpoint.h"
#include "engine/format/json.h"
#include "engine/model/hf_spec.h"
#include "engine/model/planned_size.h"

namespace conclave::engine {

ModelInfo DescribeSizes(const ModelSpec& spec, const ModelSize& size, const CostModel& costs) {
  ModelInfo info = {};
  info.name = spec.name;
  info.family = spec.family;
  info.quantization = size.quantization;
  info.layers = spec.layers;
  info.hidden = spec.hidden;
  info.heads = spec.heads;
  info.kv_heads = spec.kv_heads;
  info.head_dim = spec.head_dim;
  info.feed_forward = spec.num_expert_layers() < spec.layers ? spec.feed_forward : spec.experts->feed_forward;
  info.vocab = spec.vocab;
  info.context_tokens = spec.context_tokens;
  info.params_total = info.params_active = size.params_total;
  info.weight_bytes = size.bytes_total;
  info.weight_bytes_per_token = size.bytes_layers + size.bytes_head;
  info.kv_bytes_per_token = costs.kv_bytes_per_token;
  info.flops_per_token = costs.flops_per_token + costs.flops_per_logit_row;
  info.head_flops_per_token = costs.flops_per_logit_row;
  info.attention_flops_per_token_and_position = costs.flops_per_token_and_position;
  info.window = spec.window;
  info.window_layers = spec.num_window_layers();
  if (!spec.experts) return info;
  const RouterSpec& router = spec.experts->router;
  info.experts = router.experts;
  info.experts_per_token = router.top_k;
  const int64_t choices = int64_t{spec.num_expert_layers()} * router.top_k;
  info.params_active += choices * size.params_expert - size.params_experts;
  info.flops_per_token += costs.ExpertFlops(choices);
  for (const int64_t bytes : costs.expert_bytes) info.weight_bytes_per_token += bytes * router.top_k;
  return info;
}

namespace {

constexpr int64_t kHalf = 2;  // bytes of a cached element

struct PlannedModel {
  ModelSpec spec;
  PlannedWidths widths;
};

// Of a GGUF file: by its metadata, and by the bytes of all of its tensors together.
absl::StatusOr<PlannedModel> ReadGgufPlan(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(path));
  PlannedModel plan;
  ASSIGN_OR_RETURN(plan.spec, ReadModelSpec(*checkpoint));
  double bytes = 0;
  for (const CheckpointTensor& tensor : checkpoint->tensors()) bytes += static_cast<double>(tensor.bytes.size());
  const double width = bytes / static_cast<double>(PlannedSize(plan.spec, {}).params_total);
  plan.widths = {width, width, width, width, width};
  return plan;
}

absl::StatusOr<PlannedModel> ReadPlan(const std::string& path, std::optional<double> bits_per_weight) {
  const bool directory = std::filesystem::is_directory(path);
  if (!directory && path.ends_with(".gguf") && !bits_per_weight.has_value()) return ReadGgufPlan(path);
  const std::string config_path = directory ? path + "/config.json" : path;
  if (bits_per_weight.has_value() && !(*bits_per_weight > 0 && *bits_per_weight <= 64)) {
    return InvalidArgument("{} bits per weight: must be in (0, 64]", *bits_per_weight);
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFile(config_path, static_cast<int64_t>(kJsonBytesMax)));
  ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> config, JsonDocument::Parse(config_path, text));
  PlannedModel plan;
  ASSIGN_OR_RETURN(plan.spec, ReadHfSpec(*config));
  if (bits_per_weight.has_value()) {
    const double bytes = *bits_per_weight / 8;
    plan.widths = {bytes, bytes, bytes, bytes, bytes};
  } else {
    ASSIGN_OR_RETURN(const JsonObject object, config->root().Object());
    ASSIGN_OR_RETURN(const QuantizationSpec quantization, ReadQuantization(object));
    ASSIGN_OR_RETURN(plan.widths, WidthsOf(object, quantization));
  }
  return plan;
}

}  // namespace

absl::StatusOr<ModelInfo> PlanModel(const std::string& path, std::optional<double> bits_per_weight) {
  ASSIGN_OR_RETURN(const PlannedModel plan, ReadPlan(path, bits_per_weight));
  const ModelSize size = PlannedSize(plan.spec, plan.widths);
  return DescribeSizes(plan.spec, size, MakeCostModel(plan.spec, size, PlannedKvBytesPerToken(plan.spec, kHalf)));
}

absl::StatusOr<RankPlan> PlanRank(const std::string& config_path, std::optional<double> bits_per_weight,
                                  int32_t ranks) {
  ASSIGN_OR_RETURN(const PlannedModel plan, ReadPlan(config_path, bits_per_weight));
  ASSIGN_OR_RETURN(const std::vector<Partition> parts, PlanPartition(plan.spec, ranks));
  const Partition& first = parts[0];  // where parts are not equal, the first are the larger ones
  return RankPlan{PlannedRankBytes(plan.spec, first, plan.widths),
                  PlannedKvBytesPerToken(SpecOfRank(plan.spec, first), kHalf)};
}

}  // namespace conclave::engine
