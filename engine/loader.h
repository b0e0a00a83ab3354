// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: from a file and options to a model ready to compute, with all big memory allocated.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/chat_template.h"
#include "engine/comm/in_process.h"
#include "engine/costs.h"
#include "engine/engine.h"
#include "engine/format/checkpoint.h"
#include "engine/model/decoder.h"
#include "engine/ops/ops.h"
#include "engine/rank_group.h"
#include "engine/step_loop.h"
#include "engine/text.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

// Members in the order in which they depend on one another.
struct LoadedRank {
  std::unique_ptr<Ops> ops;
  BoundModel bound;
  std::unique_ptr<Communicator> communicator;  // null: the only rank
  std::unique_ptr<Decoder> decoder;
};
struct LoadedModel {
  std::unique_ptr<Checkpoint> checkpoint;  // null once nothing reads it any more
  std::vector<LoadedRank> ranks;
  std::unique_ptr<RankGroup> group;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;
  ModelInfo info = {};
  MemoryPlan memory = {};
  CostModel costs;
  StepLoopOptions step = {};
};

// How several ranks talk to each other.
using MakeCommunicators = std::function<std::vector<std::unique_ptr<Communicator>>(int32_t ranks)>;

// INVALID_ARGUMENT for options that cannot be, or ranks that the model cannot be split over; RESOURCE_EXHAUSTED if
// kv_bytes does not hold the context asked for, or memory runs out; else what the readers of the file say.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(
    const EngineOptions& options, const MakeCommunicators& make_communicators = MakeInProcessGroup);

}  // namespace conclave::engine
