// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: one sample's way from logits to text. Draws the token, turns bytes into whole UTF-8, watches
// for stop strings, decides when the sample ends.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/grammar/constraint.h"
#include "engine/sampler/sampler.h"
#include "engine/sampler/stop_matcher.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

// What the samples of a request share. Immutable.
struct OutputRules {
  uint64_t seed;
  SamplerParams sampler;
  Stopping stopping;
  std::shared_ptr<const StopStrings> stop_strings;  // those of `stopping`
  int32_t top_logprobs;
  std::shared_ptr<grammar::Constraint> constraint = nullptr;  // ?
};

SamplerParams ToSamplerParams(const Sampling& sampling);

class OutputStream {
 public:
  virtual ~OutputStream() = default;

  // Accounts for the prompt, and for tokens that the sample made before it came here (their text is not reported).
  // FAILED_PRECONDITION CONSTRAINT_VIOLATED if those could not have been.
  virtual absl::Status Begin(std::span<const TokenId> prompt, std::span<const TokenId> continued) = 0;

  // True if what it began with had ended the sample already, which whoever made it may not have lived to say: there is
  // no next token. Then it fills `delta` with the end.
  virtual bool EndedBefore(SampleDelta* delta) const = 0;

  // Draws the next token from `logits` [V] and fills `delta`. Returns the token.
  // delta->finished is set if it ends the sample; `last` says that there is no room for more. INTERNAL NUMERIC_FAILURE
  // if the logits are not numbers, FAILED_PRECONDITION NO_TOKEN_ALLOWED or RESOURCE_EXHAUSTED CONSTRAINT_TOO_AMBIGUOUS
  // if no token is known that the constraint allows.
  virtual absl::StatusOr<TokenId> Next(std::span<const float> logits, bool last, SamplerWorkspace* workspace,
                                       SampleDelta* delta) = 0;

  // `tokenizer` outlives the stream.
  static std::unique_ptr<OutputStream> Create(std::shared_ptr<const OutputRules> rules, int32_t sample,
                                              const Tokenizer& tokenizer);
};

}  // namespace conclave::engine
