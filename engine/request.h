// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: what the step thread knows of a request. Built and sized on the caller's thread, then owned
// by the step thread alone, so no member is guarded.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/kv/block_table.h"
#include "engine/output_stream.h"

namespace conclave::engine {

struct Request;

// One list of tokens that is computed: a sample of a generation, prompt and continuation of a score.
struct Sequence {
  Request* request = nullptr;
  int32_t index = 0;            // among the request's sequences
  int32_t sample = 0;           // as the caller numbers them
  uint64_t arrival = 0;         // order of service, unique in the engine
  std::vector<TokenId> tokens;  // prompt, then output; reserved to its end
  int32_t prompt_tokens = 0;    // of these, given
  int32_t tokens_max = 0;       // length at which it ends
  int32_t logits_from = 0;      // first position whose logits are wanted
  std::vector<PageKey> keys;    // of the full pages of `tokens`
  BlockTable table;             // empty while waiting
  int32_t overtaken = 0;
  bool done = false;
  // Samples that fork from this one when its prompt is computed.
  std::vector<std::unique_ptr<Sequence>> followers;

  std::unique_ptr<OutputStream> output;  // generate: sampler, text, stop strings
  // Score: what position logits_from + i is to be followed by, and the sum so far.
  std::vector<TokenId> targets;
  ContinuationScore score = {};

  int32_t known() const { return static_cast<int32_t>(tokens.size()); }
  Prefix prefix() const;  // all of it
};

struct Request {
  enum class Kind : uint8_t { kGenerate, kScore, kLogits, kPin };

  RequestId id = 0;
  Kind kind = Kind::kGenerate;
  int32_t priority = 0;
  PageKey root;                   // start of its page keys
  int32_t experts_per_token = 0;  // 0: a dense model
  int64_t deadline_ns = 0;
  int32_t prompt_tokens = 0;
  std::vector<std::unique_ptr<Sequence>> sequences;  // moved to the scheduler's lists when it starts

  // Where results go, by kind.
  std::shared_ptr<GenerateSink> sink;
  std::function<void(absl::StatusOr<ScoreResult>)> score_done;
  std::span<float> logits;          // [T, V]
  RoutingTrace* routing = nullptr;  // ? of kLogits: filled as its tokens are computed
  std::function<void(absl::Status)> logits_done;
  std::function<void(absl::StatusOr<PinResult>)> pin_done;

  // Progress.
  int32_t open_sequences = 0;
  bool paused = false;
  bool started = false;
  bool finished = false;
  int64_t submitted_ns = 0, started_ns = 0, first_token_ns = 0;
  Usage usage;
  absl::Status failure;  // of a sequence; reported when all have ended
  ScoreResult score;
  PinResult pin;
};

inline Prefix Sequence::prefix() const { return {request->root, keys, tokens}; }

}  // namespace conclave::engine
