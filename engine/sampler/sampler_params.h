// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace conclave::engine {

using TokenId = int32_t;

inline constexpr size_t kSamplerBiasMax = 1024;
inline constexpr int32_t kSamplerTopLogprobsMax = 20;
inline constexpr float kBanBias = -100.0f;  // this or less forbids the token

// How a token is drawn from logits l. Steps, in this order:
//   l += logit_bias; a bias of kBanBias or less forbids the token
//   l  = l > 0 ? l / repetition_penalty : l * repetition_penalty      for tokens of prompt or output (Keskar et al.
//   2019) l -= frequency_penalty * n + presence_penalty * (n > 0)           n: occurrences in the output forbidden by
//   the allowed-token mask: out temperature 0: the largest l, the lowest id of equal ones. Otherwise p = softmax(l /
//   temperature), then top_k: the k most likely; of equal ones the lowest ids top_p: the shortest list of most likely
//   tokens whose p, after top_k, add up to at least top_p (Holtzman et al. 2020) min_p: those with p >= min_p * the
//   largest p (Nguyen et al. 2024) draw:  renormalise, and take the first token in order of ids whose cumulative p
//   exceeds a uniform number.
struct SamplerParams {
  struct Bias {
    TokenId token;
    float bias;
  };
  float temperature = 1.0f;         // >= 0
  int32_t top_k = 0;                // 0: off
  float top_p = 1.0f;               // (0, 1]; 1: off
  float min_p = 0.0f;               // [0, 1]; 0: off
  float repetition_penalty = 1.0f;  // > 0; 1: off
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  std::vector<Bias> logit_bias = {};  // at most kSamplerBiasMax; several for one token add up

  bool HasPenalties() const {
    return repetition_penalty != 1.0f || frequency_penalty != 0.0f || presence_penalty != 0.0f;
  }
};

// INVALID_ARGUMENT naming the parameter and its value. `vocab`: number of tokens.
absl::Status CheckSamplerParams(const SamplerParams& params, int32_t vocab);

}  // namespace conclave::engine
