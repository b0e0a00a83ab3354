// SPDX-License-Identifier: Apache-2.0
// How sure a writer was, from the probabilities of its tokens (DeepConf, Fu et al. 2025; specs/deliberation.md §4.10),
// and what a member's record on a development split is worth as a vote (§4.2). Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace conclave::orchestrator {

// Log-probabilities looked at per place of a token.
inline constexpr int32_t kConfidenceTokens = 20;

// What is known of the tokens of one text.
struct TokenTrace {
  double logprob_sum = 0;          // of the tokens chosen, natural
  std::vector<float> confidences;  // one per token: minus the mean of the best log-probabilities at its place
};

// conclave.deliberation.v1.TokenConfidence.
struct TokenConfidence {
  int32_t token_count = 0;
  double mean_logprob = 0, mean = 0, tail = 0, lowest = 0, bottom = 0;
};

// Windows are all runs of `window` tokens; a text that is shorter is one window. Bottom is the mean over the tenth of
// the windows, at least one, whose means are the lowest. nullopt without tokens. REQUIRES window >= 1.
std::optional<TokenConfidence> Summarize(const TokenTrace& trace, int32_t window);

// A member's result on a development split.
struct Record {
  int64_t correct = 0;
  int64_t total = 0;  // at least 1
};

// log(p (answers - 1) / (1 - p)) per record, 0 where that is negative; p = (correct + shrink x pool) / (total + shrink)
// with pool the accuracy of all records together, then clipped to [clip, 1 - clip].
std::vector<double> LogOddsWeights(std::span<const Record> records, int32_t answers, double shrink, double clip);

}  // namespace conclave::orchestrator
