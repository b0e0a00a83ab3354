// SPDX-License-Identifier: Apache-2.0
// Between the wire's messages and the engine's types. Pure functions; requests must have passed Validate.
#pragma once

#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "conclave/inference/v1/inference.pb.h"
#include "engine/engine.h"

namespace conclave::worker {

namespace pb = ::conclave::inference::v1;

class ModelHost;  // worker/model_host.h

// Everything but prompt, seed and deadline_ns, which the service decides.
engine::GenerateRequest ToEngine(const pb::GenerateRequest& request);
// FAILED_PRECONDITION CAPABILITY_MISSING for knobs on a dense model, INVALID_ARGUMENT for more experts than it has.
absl::StatusOr<engine::RoutingPolicy> ToEngine(const pb::RoutingPolicy& routing, const engine::ModelInfo& info);
std::vector<engine::ChatMessage> ToEngine(const pb::Chat& chat);

// A refusal of the engine as callers get it: a full queue passes, so they are told when to try again; other limits do
// not pass by waiting.
absl::Status FromEngine(const absl::Status& status);
pb::FinishReason ToProto(engine::FinishReason reason);
pb::Usage ToProto(const engine::Usage& usage);
pb::Model ToProto(const engine::ModelInfo& info);
pb::GetLoadResponse ToProto(const engine::EngineLoad& load);

struct DeltaFields {
  bool token_ids = false;
  bool logprobs = false;
  const ModelHost* bytes_of = nullptr;  // set: log-probabilities also say what their tokens stand for
};
pb::Delta ToProto(const engine::SampleDelta& delta, const DeltaFields& fields);

}  // namespace conclave::worker
