// SPDX-License-Identifier: Apache-2.0
// What the service needs of a model: engine::Engine's public face as an interface, so that the service is tested
// without weights.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"

namespace conclave::worker {

// Thread-safe; the semantics of every method are engine::Engine's. Sinks are called without any lock of the host held.
class ModelHost {
 public:
  virtual ~ModelHost() = default;

  virtual const engine::ModelInfo& info() const = 0;

  // Text as a user's: special tokens written in it stay text. kWhole begins a sequence as the model wants it.
  enum class TextPart : uint8_t { kWhole, kContinuation };
  virtual absl::StatusOr<std::vector<engine::TokenId>> Tokenize(std::string_view text, TextPart part) const = 0;
  virtual std::string Detokenize(std::span<const engine::TokenId> tokens) const = 0;
  virtual engine::TokenText TextOf(engine::TokenId token) const = 0;
  virtual absl::StatusOr<engine::Engine::ChatPrompt> ApplyChatTemplate(std::span<const engine::ChatMessage> messages,
                                                                       bool generation_prompt,
                                                                       int64_t now_unix_seconds) const = 0;

  virtual absl::StatusOr<engine::RequestId> Submit(engine::GenerateRequest request,
                                                   std::shared_ptr<engine::GenerateSink> sink) = 0;
  virtual void Cancel(engine::RequestId id) = 0;
  virtual void Resume(engine::RequestId id) = 0;
  virtual absl::Status Score(engine::ScoreRequest request,
                             std::function<void(absl::StatusOr<engine::ScoreResult>)> done) = 0;
  virtual absl::Status Pin(engine::PinRequest request, std::function<void(absl::StatusOr<engine::PinResult>)> done) = 0;
  virtual void Unpin(engine::PinId id) = 0;

  virtual engine::EngineLoad load() const = 0;
  virtual void Drain() = 0;
};

// `engine` with its name made one word, as callers and scripts want it ("SmolLM2 135M" -> "SmolLM2-135M"), or `name`.
std::unique_ptr<ModelHost> MakeEngineHost(std::unique_ptr<engine::Engine> engine, std::string_view name);

}  // namespace conclave::worker
