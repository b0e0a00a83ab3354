// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: checks what a caller asks for and sizes the request's memory, on the caller's thread.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/grammar/constraint_cache.h"
#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

struct RequestLimits {
  int32_t context_tokens;
  int32_t sequences_max;
  int32_t page_tokens;
  int32_t vocab;
  std::string model_revision;
  int32_t experts_per_token;  // the model's own; 0: dense
  int32_t pinned_pages_max = 0;
  bool prefix_reuse = true;
  grammar::ConstraintCache* constraints = nullptr;  // ? outlives the limits; generations with a constraint need it
};

// INVALID_ARGUMENT names the field, the value found and the limit.
absl::StatusOr<std::unique_ptr<Request>> BuildGenerate(const RequestLimits& limits, const Tokenizer& tokenizer,
                                                       GenerateRequest request, std::shared_ptr<GenerateSink> sink);
absl::StatusOr<std::unique_ptr<Request>> BuildScore(const RequestLimits& limits, ScoreRequest request,
                                                    std::function<void(absl::StatusOr<ScoreResult>)> done);
absl::StatusOr<std::unique_ptr<Request>> BuildPin(const RequestLimits& limits, PinRequest request,
                                                  std::function<void(absl::StatusOr<PinResult>)> done);
// `out` [T, V] and `trace` (may be null) live until `done` was called.
absl::StatusOr<std::unique_ptr<Request>> BuildLogits(const RequestLimits& limits, std::span<const TokenId> tokens,
                                                     const RoutingPolicy& routing, std::span<float> out,
                                                     RoutingTrace* trace, std::function<void(absl::Status)> done);

}  // namespace conclave::engine
