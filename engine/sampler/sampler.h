// SPDX-License-Identifier: Apache-2.0
// From a row of logits to a token: a pure function of its arguments, the random number included, which is
// PhiloxUniform(seed, candidate, position) and depends on no other sequence, batch or thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/sampler/sampler_params.h"
#include "engine/sampler/token_counts.h"

namespace conclave::engine {

struct SampleInput {
  std::span<const float> logits = {};  // [V], left as they are. -infinity means impossible
  const SamplerParams* params = nullptr;
  const TokenCounts* counts = nullptr;     // needed with penalties
  std::span<const uint64_t> allowed = {};  // [(V + 63) / 64]: bit i % 64 of word i / 64; empty: all are
  uint64_t seed = 0;
  uint64_t candidate = 0;     // which sample of the request
  uint64_t position = 0;      // how many tokens the sample has drawn before
  int32_t top_logprobs = -1;  // -1: no log-probabilities; N <= kSamplerTopLogprobsMax: and the N best
};

struct SampleOutput {
  struct Logprob {
    TokenId token;
    float logprob;  // natural log of softmax(logits), before bias, penalties, temperature and filters
  };
  TokenId token = -1;
  float logprob = 0;             // of the token; 0 unless asked for
  std::span<const Logprob> top;  // best first, equal ones by id; in the workspace, until its next use
};

// Memory for sampling, reused: nothing is allocated once it has seen a vocabulary's size. One per thread.
struct SamplerWorkspace {
  std::vector<float> logits;   // [V], when bias, penalties or a mask change them
  std::vector<float> weights;  // [V] or [top_k]
  std::vector<double> mass;    // per bucket of weights
  std::vector<TokenId> tokens;
  std::vector<TokenId> allowed;  // where a mask leaves few: these, and their logits
  std::vector<float> gathered;
  std::vector<SampleOutput::Logprob> top;
};

// INTERNAL "NUMERIC_FAILURE .." if a logit is NaN or +infinity or all are -infinity; FAILED_PRECONDITION
// "NO_TOKEN_ALLOWED .." if bans and mask leave none. REQUIRES: params passed CheckSamplerParams.
absl::StatusOr<SampleOutput> SampleToken(const SampleInput& input, SamplerWorkspace* workspace);

// ln softmax(logits)[token] in double, for scoring. Same error.
absl::StatusOr<double> LogprobOf(std::span<const float> logits, TokenId token);

}  // namespace conclave::engine
