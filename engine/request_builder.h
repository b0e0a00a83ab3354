// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: checks what a caller asks for and sizes the request's memory, on the caller's thread.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

struct RequestLimits {
  int32_t context_tokens;
  int32_t sequences_max;
  int32_t page_tokens;
  int32_t vocab;
  std::string model_revision;
  bool has_experts;
};

// INVALID_ARGUMENT names the field, the value found and the limit.
absl::StatusOr<std::unique_ptr<Request>> BuildGenerate(const RequestLimits& limits, const Tokenizer& tokenizer,
                                                       GenerateRequest request, std::shared_ptr<GenerateSink> sink);
absl::StatusOr<std::unique_ptr<Request>> BuildScore(const RequestLimits& limits, ScoreRequest request,
                                                    std::function<void(absl::StatusOr<ScoreResult>)> done);
// `out` [T, V] lives until `done` was called.
absl::StatusOr<std::unique_ptr<Request>> BuildLogits(const RequestLimits& limits, std::span<const TokenId> tokens,
                                                     std::span<float> out, std::function<void(absl::Status)> done);

}  // namespace conclave::engine
