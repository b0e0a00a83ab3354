// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/cost_bound.h"

#include <gtest/gtest.h>

#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/limits.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

const RoleLibrary& Roles() {
  static const RoleLibrary* const roles = [] {
    auto* library = new RoleLibrary;
    EXPECT_OK(library->AddDirectory(CONCLAVE_SOURCE_DIR "/graphs/roles"));
    return library;
  }();
  return *roles;
}

absl::StatusOr<deliberation::v1::CostBound> Bound(std::string_view nodes, int members, double flops_per_token = 0) {
  const std::string text = "name: \"g\" input { name: \"question\" }\n" + std::string(nodes);
  CompileResult compiled = CompileGraphText(text, "g.textproto", Roles());
  for (const std::string& error : compiled.errors) ADD_FAILURE() << error;
  std::vector<std::string> names;
  for (int i = 0; i < members; ++i) names.push_back("m" + std::to_string(i));
  CostInputs inputs;
  inputs.binding = *ResolveBinding(*compiled.graph, {}, names);
  inputs.members.resize(names.size());
  for (CostModel& cost : inputs.members) cost.flops_per_token = flops_per_token;
  return BoundCost(*compiled.graph, inputs);
}

TEST(CostBound, MembersTimesSamples) {
  const auto bound = Bound("node { name: \"a\" speak { role: \"solver\" members: \"m*\" samples: 3 } }", 4);
  ASSERT_OK(bound);
  EXPECT_EQ(bound->calls(), 12);
  EXPECT_EQ(bound->output_tokens(), 12 * 400) << "the solver's cap";
  EXPECT_FALSE(bound->has_flops()) << "nobody's costs are known";
}

TEST(CostBound, LoopsTakeAllTheirRoundsAndBranchesTheirDearerArm) {
  const auto bound = Bound(
      "node { name: \"a\" speak { role: \"solver\" members: \"m*\" } }\n"                               // 4
      "node { name: \"l\" loop { over: \"a\" max_rounds: 3 until: \"v.accepted >= 1\"\n"                // 3 x
      "  body { name: \"r\" speak { role: \"solver\" members: \"m0\" sees { node: \"a\" } } }\n"        //     1
      "  body { name: \"v\" judge { role: \"verifier\" members: \"m*\" of: \"a\" samples: 2 } } } }\n"  //  4 utterances
                                                                                                        //  x 4 x 2
      "node { name: \"b\" branch { condition: \"votes.margin > 0.5\"\n"
      "  then { name: \"t\" speak { role: \"solver\" members: \"m0\" sees { node: \"l\" } } }\n"  // 1
      "  otherwise { name: \"o\" speak { role: \"solver\" members: \"m*\" samples: 2 } } } }\n",  // 8
      4);
  ASSERT_OK(bound);
  EXPECT_EQ(bound->calls(), 4 + 3 * (1 + 4 * 4 * 2) + 8);
}

TEST(CostBound, ProbabilityJudgesPutOutNothing) {
  const auto bound = Bound(
      "node { name: \"a\" speak { role: \"solver\" members: \"m*\" } }\n"
      "node { name: \"p\" judge { role: \"judge\" members: \"m*\" of: \"a\" method: P_TRUE } }\n"
      "node { name: \"v\" pick { of: \"a\" by: BEST_OF_N weight: \"p.mean_score\" } }\n",
      2, 10);
  ASSERT_OK(bound);
  EXPECT_EQ(bound->calls(), 2 + 4);
  EXPECT_EQ(bound->output_tokens(), 2 * 400);
  EXPECT_GT(bound->flops(), 10.0 * 800);
}

TEST(CostBound, CallsAreLimited) {
  // 10,000 = 156 x 64 + 16
  const std::string nodes =
      "node { name: \"a\" speak { role: \"solver\" members: \"m*\" samples: 64 } }\n"
      "node { name: \"b\" speak { role: \"solver\" members: \"m0\" samples: 16 sees { node: \"a\" } } }\n";
  ASSERT_OK(Bound(nodes, 156));
  EXPECT_EQ(Bound(nodes, 156)->calls(), kCallsPerRunMax);
  EXPECT_THAT(Bound(nodes, 157), testing::StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace conclave::orchestrator
