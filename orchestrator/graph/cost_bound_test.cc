// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/cost_bound.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/graph_testing.h"
#include "orchestrator/graph/limits.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

absl::StatusOr<deliberation::v1::CostBound> Bound(std::string_view nodes, int members, double flops_per_token = 0) {
  const std::string text = "name: \"g\" input { name: \"question\" }\n" + std::string(nodes);
  CompileResult compiled = CompileGraphText(text, "g.textproto", ShippedRoles());
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

TEST(CostBound, StragglersMayBeAskedTwice) {
  const auto bound =
      Bound("node { name: \"a\" speak { role: \"solver\" members: \"m*\" samples: 3 hedge { when_done: 1 } } }", 4);
  ASSERT_OK(bound);
  EXPECT_EQ(bound->calls(), 2 * 12);
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

TEST(CostBound, ComparisonsByTheirWindows) {
  const auto bound = [](const std::string& method) {
    const std::string role = method == "RANKING" ? "ranker" : "selector";
    return Bound(
               "node { name: \"a\" speak { role: \"solver\" members: \"m*\" samples: 3 } }\n"
               "node { name: \"s\" judge { role: \"" +
                   role + "\" members: \"m*\" of: \"a\" samples: 2 method: " + method +
                   " } }\n"
                   "node { name: \"v\" pick { of: \"a\" by: BEST_OF_N weight: \"s.mean_score\" } }\n",
               3)
        ->calls();
  };
  // Nine utterances, three judges, two samples.
  EXPECT_EQ(bound("CHOICE"), 9 + 3 * 2 * 1);
  EXPECT_EQ(bound("CHOICE window: 4"), 9 + 3 * 2 * 3);
  EXPECT_EQ(bound("RANKING window: 9"), 9 + 3 * 2 * 1);
  EXPECT_EQ(bound("PAIRS"), 9 + 3 * 2 * 9 * 8) << "every two, in both orders";
}

TEST(CostBound, APoolGrowsByWhatARoundAddsUntilThePickCutsIt) {
  // The pool begins with 1, every round adds 2 and at most `keep` stay; every round judges the pool. What it cannot
  // bound by rounds it bounds by `keep`.
  const auto bound = [](int keep) {
    return Bound(fmt::format("node {{ name: \"a\" speak {{ role: \"solver\" members: \"m0\" }} }}\n"
                             "node {{ name: \"l\" loop {{ over: \"a\" max_rounds: 5\n"
                             "  body {{ name: \"more\" speak {{ role: \"solver\" members: \"m0\" samples: 2 sees {{ "
                             "node: \"a\" }} }} }}\n"
                             "  body {{ name: \"v\" judge {{ role: \"verifier\" members: \"m0\" of: \"a\" }} }}\n"
                             "  body {{ name: \"pool\" pick {{ of: \"a\" also: \"more\" by: BEST_OF_N keep: {} weight: "
                             "\"v.mean_score\" }} }} "
                             "}} }}\n",
                             keep),
                 1)
        ->calls();
  };
  EXPECT_EQ(bound(1), 1 + 5 * (2 + 1));
  EXPECT_EQ(bound(100), 1 + 5 * (2 + 100));
  EXPECT_EQ(bound(kKeepMax), 1 + 5 * (2 + kKeepMax));
}

TEST(CostBound, OneCallPerUtteranceOfEach) {
  const auto bound = [](const std::string& assign) {
    return Bound(
               "node { name: \"a\" speak { role: \"solver\" members: \"m*\" samples: 2 } }\n"
               "node { name: \"v\" judge { role: \"verifier\" members: \"m*\" of: \"a\" } }\n"
               "node { name: \"w\" judge { role: \"meta_verifier\" members: \"m0\" of: \"v\" } }\n"
               "node { name: \"b\" speak { role: \"refiner\" members: \"m*\" samples: 2 each: \"a\" " +
                   assign +
                   " } }\n"
                   "node { name: \"p\" pick { of: \"b\" also: \"a\" by: BEST_OF_N weight: \"v.valid\" } }\n",
               3)
        ->calls();
  };
  // 6 utterances, 18 judgements of them, each judged once; 6 x 2 refinements by all three or by one.
  EXPECT_EQ(bound(""), 6 + 18 + 18 + 6 * 2 * 3);
  EXPECT_EQ(bound("assign: TURNS"), 6 + 18 + 18 + 6 * 2);
}

TEST(CostBound, WhatMayEndEarlyIsBoundedByAllOfIt) {
  const auto bound = Bound(
      "node { name: \"a\" speak { role: \"solver\" members: \"m*\" samples: 20 stop { rule: BETA } } }\n"
      "node { name: \"s\" judge { role: \"self_check\" members: \"m*\" of: \"a\" follow: true only_self: true } }\n"
      "node { name: \"v\" judge { role: \"verifier\" members: \"m0\" of: \"a\" samples: 8 strict: true } }\n"
      "node { name: \"p\" pick { of: \"a\" by: BEST_OF_N weight: \"v.accepts + s.mean_score\" } }\n",
      2);
  EXPECT_EQ(bound->calls(), 40 + 40 + 40 * 8) << "everybody is asked about its own";
}

TEST(CostBound, ASearchAsksForAllItsTrialsEveryRound) {
  const auto bound = Bound(
      "node { name: \"t\" loop { max_rounds: 5\n"
      "  body { name: \"c\" pick { of: \"t\" by: AB_MCTS_A keep: 3 weight: \"s.mean_score\" } }\n"
      "  body { name: \"g\" speak { role: \"refiner\" members: \"m*\" each: \"c\" assign: TURNS } }\n"
      "  body { name: \"s\" judge { role: \"judge\" members: \"m0\" of: \"g\" method: P_TRUE } }\n"
      "  body { name: \"k\" pick { of: \"t\" also: \"g\" by: FIRST keep: 1024 } } } }\n",
      4);
  EXPECT_EQ(bound->calls(), 5 * (3 + 3));
}

}  // namespace
}  // namespace conclave::orchestrator
