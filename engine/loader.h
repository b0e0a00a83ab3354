// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: from a file and options to a model ready to compute, with all big memory allocated.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/chat_template.h"
#include "engine/costs.h"
#include "engine/engine.h"
#include "engine/format/checkpoint.h"
#include "engine/model/decoder.h"
#include "engine/ops/ops.h"
#include "engine/step_loop.h"
#include "engine/text.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

// Members in the order in which they depend on one another.
struct LoadedModel {
  std::unique_ptr<Checkpoint> checkpoint;  // null once nothing reads it any more
  std::unique_ptr<Ops> ops;
  BoundModel bound;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;
  ModelInfo info = {};
  MemoryPlan memory = {};
  CostModel costs;
  StepLoopOptions step = {};
};

// INVALID_ARGUMENT for options that cannot be; RESOURCE_EXHAUSTED if kv_bytes does not hold the context asked for, or
// memory runs out; else what the readers of the file say.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const EngineOptions& options);

}  // namespace conclave::engine
