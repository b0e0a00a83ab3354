// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/ledger/roofline.h"

#include <algorithm>
#include <cmath>

#include "common/status.h"
#include "orchestrator/ledger/cost.h"

namespace conclave::orchestrator {
namespace {

using deliberation::v1::Accelerator;
using deliberation::v1::Card;

double BytesPerWeight(const Card& card) { return card.has_bytes_per_weight() ? card.bytes_per_weight() : 2.0; }

absl::Status Check(const Card& card, const Accelerator& accelerator, const Serving& serving) {
  if (card.total_parameters() <= 0 || card.layers() <= 0) {
    return InvalidArgument("a card with total_parameters and layers is needed; it has {} and {}",
                           card.total_parameters(), card.layers());
  }
  if (!(accelerator.bytes_per_second() > 0) || !(accelerator.flops_16bit() > 0) ||
      !(accelerator.bandwidth_share() > 0) || !(accelerator.flops_share() > 0) || !(accelerator.memory_bytes() > 0)) {
    return InvalidArgument("accelerator \"{}\" lacks memory, bandwidth, FLOP/s or their shares", accelerator.name());
  }
  if (serving.devices < 1 || !(serving.batch > 0) || !(serving.context >= 0)) {
    return InvalidArgument("{} devices, batch {}, context {}: all must be positive", serving.devices, serving.batch,
                           serving.context);
  }
  return absl::OkStatus();
}

double PeakFlops(const Card& card, const Accelerator& accelerator) {
  const bool narrow = BytesPerWeight(card) <= 1 && accelerator.flops_8bit() > 0;
  return narrow ? accelerator.flops_8bit() : accelerator.flops_16bit();
}

// Seconds and watts of a step that computes `flops` and moves `bytes`.
Step Roof(const Card& card, const Accelerator& accelerator, const Serving& serving, double flops, double bytes,
          double on_top) {
  Step step;
  const double devices = serving.devices;
  const double peak = PeakFlops(card, accelerator);
  const double compute = flops / (devices * peak * accelerator.flops_share());
  const double memory = bytes / (devices * accelerator.bytes_per_second() * accelerator.bandwidth_share());
  step.memory_bound = memory >= compute;
  step.seconds = std::max(compute, memory) + on_top;
  step.flops = flops;
  step.bytes = bytes;
  const double share = flops / (step.seconds * devices * peak);
  const double rise = accelerator.limit_at_share() > 0 ? std::min(1.0, share / accelerator.limit_at_share()) : 1.0;
  step.watts = devices * (accelerator.watts_memory_bound() +
                          rise * (accelerator.watts_limit() - accelerator.watts_memory_bound()));
  return step;
}

// Per step whatever is computed: launches of every layer, and the exchange where experts are spread over devices.
double PerLayer(const Card& card, const Accelerator& accelerator, const Serving& serving) {
  const bool spread = card.experts() > 1 && serving.devices > 1;
  const double exchange =
      spread ? accelerator.exchange_seconds_per_layer_and_device() * static_cast<double>(serving.devices) : 0;
  return static_cast<double>(card.layers()) * (accelerator.seconds_per_layer() + exchange);
}

}  // namespace

double WeightBytesPerStep(const Card& card, double batch) {
  const double total = static_cast<double>(card.total_parameters());
  const double active =
      card.has_active_parameters() ? static_cast<double>(card.active_parameters()) : static_cast<double>(total);
  if (card.experts() <= 1 || card.experts_per_token() < 1 || card.experts_per_token() >= card.experts()) {
    // A mixture that does not say how many experts: what one token uses, and beyond it no one knows; all of it at most.
    return BytesPerWeight(card) * (active < total ? std::min(total, active * batch) : total);
  }
  const double share = static_cast<double>(card.experts_per_token()) / static_cast<double>(card.experts());
  const double in_experts = (total - active) / (1 - share);
  const double touched = 1 - std::pow(1 - share, batch);
  return BytesPerWeight(card) * (total - in_experts + touched * in_experts);
}

absl::StatusOr<Step> DecodeStep(const Card& card, const Accelerator& accelerator, const Serving& serving) {
  RETURN_IF_ERROR(Check(card, accelerator, serving));
  const CostModel cost = CostOf(card);
  const double flops =
      serving.batch * (cost.flops_per_token + serving.context * cost.attention_flops_per_token_and_position);
  const double bytes =
      WeightBytesPerStep(card, serving.batch) + serving.batch * serving.context * cost.kv_bytes_per_token;
  return Roof(card, accelerator, serving, flops, bytes,
              PerLayer(card, accelerator, serving) + serving.batch * accelerator.seconds_per_sequence());
}

absl::StatusOr<Step> Prefill(const Card& card, const Accelerator& accelerator, const Serving& serving, double tokens) {
  RETURN_IF_ERROR(Check(card, accelerator, serving));
  if (!(tokens > 0)) return Step{};
  const CostModel cost = CostOf(card);
  // The head looks at the last token only.
  const double flops = tokens * (cost.flops_per_token - cost.head_flops_per_token) + cost.head_flops_per_token +
                       tokens * (tokens + 1) / 2 * cost.attention_flops_per_token_and_position;
  return Roof(card, accelerator, serving, flops, WeightBytesPerStep(card, tokens),
              PerLayer(card, accelerator, serving));
}

absl::StatusOr<AnswerCost> Answer(const Card& card, const Accelerator& accelerator, const Serving& serving,
                                  double prompt_tokens, double output_tokens) {
  ASSIGN_OR_RETURN(const Step prompt, Prefill(card, accelerator, serving, prompt_tokens));
  ASSIGN_OR_RETURN(const Step step, DecodeStep(card, accelerator, serving));
  const double steps = std::max(0.0, output_tokens - 1);  // the prompt gives the first token
  AnswerCost cost;
  cost.seconds = prompt.seconds + steps * step.seconds;
  cost.joules = prompt.seconds * prompt.watts + steps * step.seconds * step.watts / serving.batch;
  return cost;
}

absl::StatusOr<Footprint> Hold(const Card& card, const Accelerator& accelerator, const Serving& serving,
                               int32_t copies) {
  RETURN_IF_ERROR(Check(card, accelerator, serving));
  if (copies < 1) return InvalidArgument("{} copies of a model; at least 1 is needed", copies);
  const double weights = static_cast<double>(card.total_parameters()) * BytesPerWeight(card);
  const double kv = serving.batch * serving.context * static_cast<double>(card.kv_bytes_per_token());
  const double room = kUsableMemory * accelerator.memory_bytes();
  Footprint footprint;
  footprint.weight_bytes = weights * copies;
  footprint.kv_bytes = kv * copies;
  footprint.devices_per_copy = 1;
  constexpr int32_t kDevicesMax = 1 << 16;
  while (footprint.devices_per_copy * room < weights + kv) {
    if (footprint.devices_per_copy >= kDevicesMax) {
      return InvalidArgument("{:.3g} bytes do not fit {} devices of \"{}\"", weights + kv, kDevicesMax,
                             accelerator.name());
    }
    footprint.devices_per_copy *= 2;
  }
  footprint.devices = footprint.devices_per_copy * copies;
  const int32_t per_node = std::max(1, accelerator.devices_per_node());
  // Copies that fit a machine share it; larger ones take whole machines.
  footprint.nodes =
      footprint.devices_per_copy >= per_node
          ? copies * ((footprint.devices_per_copy + per_node - 1) / per_node)
          : (copies + per_node / footprint.devices_per_copy - 1) / (per_node / footprint.devices_per_copy);
  return footprint;
}

}  // namespace conclave::orchestrator
