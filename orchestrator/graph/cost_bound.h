// SPDX-License-Identifier: Apache-2.0
// What a run can cost at most, before any of it is spent.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/ledger/cost.h"

namespace conclave::orchestrator {

// What the bound knows of the question and the members.
struct CostInputs {
  std::map<std::string, std::vector<int32_t>> binding;  // of ResolveBinding
  std::vector<CostModel> members;                       // FLOPs are bounded only if all bound members' are known
  int64_t input_bytes = 2048;                           // all inputs together, as they stand in every prompt
};

// Tokens that one call of the node may put out: 0 for a P_TRUE judge, which only scores.
int32_t OutputTokensMax(const CompiledNode& node);

// Upper bounds without retries: every branch takes its dearer arm, every loop all its rounds, every call its whole
// output. Prompt tokens are estimated, not bounded: role texts, inputs and what is seen, at characters_per_token.
// RESOURCE_EXHAUSTED: more than kCallsPerRunMax calls.
absl::StatusOr<deliberation::v1::CostBound> BoundCost(const CompiledGraph& graph, const CostInputs& inputs);

}  // namespace conclave::orchestrator
