// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/arms/removal.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/file.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/graph_testing.h"
#include "protos/textproto.h"
#include "tests/testing/status_matchers.h"

namespace conclave::experiment {
namespace {

using deliberation::v1::Graph;
using ::testing::ElementsAre;

Graph Shipped(const std::string& name) {
  Graph graph;
  const auto text = ReadFile(CONCLAVE_SOURCE_DIR "/graphs/" + name + ".textproto");
  EXPECT_OK(text);
  EXPECT_TRUE(ParseTextproto(*text, &graph).errors.empty());
  return graph;
}

const deliberation::v1::Node* Find(const Graph& graph, const std::string& name) {
  for (const auto& node : graph.node()) {
    if (node.name() == name) return &node;
    for (const auto& inner : node.loop().body()) {
      if (inner.name() == name) return &inner;
    }
  }
  return nullptr;
}

TEST(WithoutRole, APlannerLeavesTheRestUnplanned) {
  const Removal removal = WithoutRole(Shipped("council"), "planner");
  EXPECT_THAT(removal.nodes, ElementsAre("plan"));
  EXPECT_EQ(Find(removal.graph, "plan"), nullptr);
  EXPECT_EQ(Find(removal.graph, "draft")->speak().sees_size(), 0);
  EXPECT_TRUE(orchestrator::CompileGraph(removal.graph, orchestrator::ShippedRoles()).errors.empty());
}

TEST(WithoutRole, AVerifierLeavesTheVoteAndTheOtherHalfOfACondition) {
  const Removal removal = WithoutRole(Shipped("council"), "verifier");
  EXPECT_THAT(removal.nodes, ElementsAre("verify"));
  EXPECT_EQ(Find(removal.graph, "review")->loop().until(), "votes.margin >= 0.9");
  EXPECT_EQ(Find(removal.graph, "verdict")->pick().by(), deliberation::v1::Pick::MAJORITY);
  EXPECT_EQ(Find(removal.graph, "verdict")->pick().weight(), "");
  EXPECT_TRUE(orchestrator::CompileGraph(removal.graph, orchestrator::ShippedRoles()).errors.empty());
}

TEST(WithoutRole, WhoAnswersCannotBeTakenOut) {
  const auto compiled =
      orchestrator::CompileGraph(WithoutRole(Shipped("member_vote"), "solver").graph, orchestrator::ShippedRoles());
  EXPECT_FALSE(compiled.errors.empty());
}

// What judged the judges goes with them.
TEST(WithoutRole, WhatWasAboutItGoesToo) {
  const Removal removal = WithoutRole(Shipped("best_of_n"), "judge");
  EXPECT_THAT(removal.nodes, ElementsAre("score"));
  EXPECT_EQ(Find(removal.graph, "verdict")->pick().by(), deliberation::v1::Pick::MAJORITY);
}

TEST(WithoutRole, AStrangerChangesNothing) {
  const Graph council = Shipped("council");
  const Removal removal = WithoutRole(council, "nobody");
  EXPECT_TRUE(removal.nodes.empty());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(removal.graph, council));
}

// Every role of every shipped graph comes out one way or the other: a graph that compiles, or errors.
TEST(WithoutRole, EveryShippedGraph) {
  int compiled = 0;
  for (const auto& entry : std::filesystem::directory_iterator(CONCLAVE_SOURCE_DIR "/graphs")) {
    if (entry.path().extension() != ".textproto") continue;
    const Graph graph = Shipped(entry.path().stem());
    for (const std::string& role : orchestrator::ShippedRoles().names()) {
      const Removal removal = WithoutRole(graph, role);
      const auto result = orchestrator::CompileGraph(removal.graph, orchestrator::ShippedRoles());
      EXPECT_EQ(result.graph == nullptr, !result.errors.empty());
      if (!removal.nodes.empty() && result.graph != nullptr) ++compiled;
    }
  }
  EXPECT_GE(compiled, 20);
}

TEST(WithoutTerms, KeepsWhatDoesNotNameThem) {
  const std::vector<std::string> nodes = {"verify"};
  const std::vector<std::string_view> joints = {" or ", " and "};
  EXPECT_EQ(WithoutTerms("verify.mean_score >= 0.9 or votes.margin >= 0.6", nodes, joints), "votes.margin >= 0.6");
  EXPECT_EQ(WithoutTerms("round > 1 and verify.accepted > 2 or votes.top == 1", nodes, joints),
            "round > 1 or votes.top == 1");
  EXPECT_EQ(WithoutTerms("(verify.mean_score > 0.5 or round > 2) and votes.top == 1", nodes, joints), "votes.top == 1");
  EXPECT_EQ(WithoutTerms("verify.passes >= 5", nodes, joints), "");
  // Other names that contain it, attributes, and joints inside of texts are none.
  EXPECT_EQ(WithoutTerms("verify_all.count > 1 or inputs.verify", nodes, joints),
            "verify_all.count > 1 or inputs.verify");
  EXPECT_EQ(WithoutTerms("inputs.mode == ' or verify' or verify.accepted", nodes, joints),
            "inputs.mode == ' or verify'");
}

TEST(WithoutRole, CalledGraphsLoseItByTheirOwnNames) {
  const auto graph = orchestrator::CompileGraph(Shipped("vote_then_council"), orchestrator::ShippedRoles(),
                                                orchestrator::GraphsIn({CONCLAVE_SOURCE_DIR "/graphs"}))
                         .graph;
  ASSERT_NE(graph, nullptr);
  const Removal planner = WithoutRole(graph->proto(), "planner");
  EXPECT_THAT(planner.nodes, ElementsAre("council.plan"));
  EXPECT_TRUE(orchestrator::CompileGraph(planner.graph, orchestrator::ShippedRoles()).errors.empty());
  // Its only role is the graph: the call goes, and what was about it.
  const Removal solver = WithoutRole(graph->proto(), "solver");
  EXPECT_THAT(solver.nodes, ::testing::IsSupersetOf({"vote", "check", "kept", "vote.draft", "vote.verdict"}));
}

}  // namespace
}  // namespace conclave::experiment
