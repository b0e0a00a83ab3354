// SPDX-License-Identifier: Apache-2.0
// Between the words of a deliberation and those of conclave.inference.v1. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "conclave/inference/v1/inference.pb.h"
#include "orchestrator/backend/backend.h"

namespace conclave::orchestrator {

// `model` decides how the prompt is sent: as a chat where the model has a template, otherwise as the messages' texts
// with blank lines between them.
inference::v1::GenerateRequest ToGenerate(const CallRequest& request, const inference::v1::Model& model,
                                          std::string_view request_id);
// For a call with `p_true`.
inference::v1::ScoreRequest ToScore(const CallRequest& request, const inference::v1::Model& model);

// For a call whose prompt is what others begin with: without the prompt to speak.
inference::v1::PinPrefixRequest ToPin(const CallRequest& trunk, const inference::v1::Model& model);

// P(yes) / (P(yes) + P(no)) of the two continuations of ToScore, in that order. Absent: the response does not have
// two finite scores.
std::optional<double> PTrue(const inference::v1::ScoreResponse& response);

// Work of a call whose worker could not report it any more: counts as seen, costs as the model states them.
inference::v1::Usage EstimateLostWork(const inference::v1::Model& model, int64_t prompt_tokens, int64_t cached_tokens,
                                      int64_t output_tokens);

}  // namespace conclave::orchestrator
