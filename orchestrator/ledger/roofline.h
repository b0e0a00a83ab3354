// SPDX-License-Identifier: Apache-2.0
// Time and energy of models on machines that are not here: a roofline with what real servers add to it. Formulas:
// specs/evaluation.md §3. Modelled, never measured; roofline_test holds it against published measurements.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/hardware.pb.h"

namespace conclave::orchestrator {

// How a model is served.
struct Serving {
  int32_t devices = 1;
  double batch = 1;      // sequences in a step
  double context = 600;  // tokens before each, in the mean
};

// Bytes of weights that a step over `batch` sequences reads: all that is not experts, and of the experts those that
// some sequence chooses, E (1 - (1 - k/E)^batch) of E if choices are independent and even (an upper bound: real ones
// overlap). The two parts follow from total and active parameters.
double WeightBytesPerStep(const deliberation::v1::Card& card, double batch);

// One decoding step: the larger of FLOPs / (share of peak) and bytes (weights once, keys and values per sequence) /
// (share of bandwidth), over all devices, and what comes on top per layer and per sequence.
struct Step {
  double seconds = 0;
  double flops = 0;
  double bytes = 0;
  double watts = 0;          // of all devices: from memory-bound power up to the limit, by the share of peak FLOP/s
  bool memory_bound = true;  // which roof
};
// INVALID_ARGUMENT when the card has no parameters or layers, or the serving is not positive.
absl::StatusOr<Step> DecodeStep(const deliberation::v1::Card& card, const deliberation::v1::Accelerator& accelerator,
                                const Serving& serving);

// Reading `tokens` of prompt at once, at the compute roof.
absl::StatusOr<Step> Prefill(const deliberation::v1::Card& card, const deliberation::v1::Accelerator& accelerator,
                             const Serving& serving, double tokens);

// One answer: its prompt, and its output in a batch of others. Energy is the answer's share of the batch's.
struct AnswerCost {
  double seconds = 0;
  double joules = 0;
};
absl::StatusOr<AnswerCost> Answer(const deliberation::v1::Card& card, const deliberation::v1::Accelerator& accelerator,
                                  const Serving& serving, double prompt_tokens, double output_tokens);

// What has to be there to hold `copies` different models of this size with their keys and values.
struct Footprint {
  double weight_bytes = 0;       // of all copies
  double kv_bytes = 0;           // of all copies: batch x context each
  int32_t devices_per_copy = 0;  // a power of two, so that it can be split evenly
  int32_t devices = 0;
  int32_t nodes = 0;  // whole machines; a copy does not share a device with another
};
// A tenth of the memory is left for activations and the rest. INVALID_ARGUMENT as DecodeStep, and for no copies.
inline constexpr double kUsableMemory = 0.9;
absl::StatusOr<Footprint> Hold(const deliberation::v1::Card& card, const deliberation::v1::Accelerator& accelerator,
                               const Serving& serving, int32_t copies);

}  // namespace conclave::orchestrator
