// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/fleet/abilities.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/graph/compile.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::shared_ptr<const CompiledGraph> Graph(const std::string& nodes) {
  RoleLibrary roles;
  CONCLAVE_CHECK(roles.AddText("name: \"solver\" task: \"{{ question }}\" answer {}", "solver.textproto").empty());
  CONCLAVE_CHECK(
      roles.AddText("name: \"cool\" task: \"{{ question }}\" answer {} sampling { top_k: 5 }", "cool.textproto")
          .empty());
  CONCLAVE_CHECK(
      roles.AddText("name: \"ruled\" task: \"{{ question }}\" text {} constraint { regex: \"a\" }", "ruled.textproto")
          .empty());
  CONCLAVE_CHECK(
      roles.AddText("name: \"mended\" task: \"{{ question }}\" answer {} repair: \"Once more.\"", "mended.textproto")
          .empty());
  auto graph = CompileGraphText("name: \"g\" input { name: \"question\" } " + nodes, "g.textproto", roles).ToStatusOr();
  CONCLAVE_CHECK_MSG(graph.ok(), graph.status().ToString().c_str());
  return *std::move(graph);
}

// What a run of two members, of which "hosted" can nothing, says.
absl::Status Check(const std::string& nodes, const deliberation::v1::RunRequest& request) {
  const auto graph = Graph(nodes);
  std::vector<MemberFacts> members(2);
  members[0].name = "own";
  members[1].name = "hosted";
  members[1].backend = "openai";
  members[1].abilities = {.seed = false,
                          .logprobs = false,
                          .p_true = false,
                          .extended_sampling = false,
                          .experts = false,
                          .json_schema = false,
                          .grammar = false};
  return BuildRunSpec(*graph, request, {}, members).status();
}

absl::Status Check(const std::string& nodes, const deliberation::v1::SamplingDefaults& sampling = {}) {
  deliberation::v1::RunRequest request;
  *request.mutable_sampling() = sampling;
  return Check(nodes, request);
}

TEST(Abilities, WhatNobodyNeedsIsNotAsked) {
  EXPECT_OK(Check(R"(node { name: "a" speak { role: "solver" members: "*" samples: 3 } })"));
  EXPECT_OK(
      Check(R"(node { name: "a" speak { role: "cool" members: "own" confidence_window: 8 } } needs_seeds: true)"));
}

TEST(Abilities, EverySeatThatNeedsMoreIsNamedBeforeTheRun) {
  const absl::Status status =
      Check(R"(node { name: "a" speak { role: "solver" members: "*" confidence_window: 8 } } needs_seeds: true)");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition,
                               AllOf(HasSubstr("node \"a\": member \"hosted\" does not honour seeds"),
                                     HasSubstr("declare capability: SEED"), HasSubstr("confidence_window"),
                                     HasSubstr("LOGPROBS"), Not(HasSubstr("\"own\"")))));
  EXPECT_EQ(rpc::Reason(status), "CAPABILITY_MISSING");
  EXPECT_THAT(Check(R"(node { name: "a" speak { role: "cool" members: "hosted" } })"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("EXTENDED_SAMPLING")));
}

TEST(Abilities, AResultIsHeldToAConstraintOnlyWhereItCanBe) {
  deliberation::v1::RunRequest request;
  request.mutable_result_constraint()->set_json_schema("{}");
  const auto speak = [](const std::string& role, const std::string& member) {
    return fmt::format(R"(node {{ name: "a" speak {{ role: "{}" members: "{}" }} }})", role, member);
  };
  EXPECT_OK(Check(speak("solver", "own"), request));
  EXPECT_OK(Check(speak("solver", "hosted") + " " +
                      R"(node { name: "b" speak { role: "solver" members: "own" sees { node: "a" } } })",
                  request));
  EXPECT_THAT(Check(speak("solver", "hosted"), request),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("cannot be held to a JSON Schema"), HasSubstr("JSON_SCHEMA"))));
  const std::string vote = speak("solver", "*") + R"( node { name: "v" pick { of: "a" by: MAJORITY } })";
  EXPECT_THAT(Check(vote, request), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("ends in a speak")));
  EXPECT_THAT(Check(speak("ruled", "own"), request),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("by its role \"ruled\" already")));
  request.mutable_result_constraint()->set_regex("a+");
  EXPECT_THAT(Check(speak("solver", "hosted"), request),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("regular expression"), Not(HasSubstr("declare")))));
}

TEST(Abilities, LogProbabilitiesAreToldOfAResultThatOneMemberSaysOnce) {
  deliberation::v1::RunRequest request;
  request.set_result_logprob_count(0);
  const auto speak = [](const std::string& name, const std::string& more) {
    return fmt::format(R"(node {{ name: "{}" speak {{ {} }} }} )", name, more);
  };
  const std::string drafts = speak("d", R"(role: "solver" members: "*" samples: 2)");
  const std::string own = R"(role: "solver" members: "own")", hosted = R"(role: "solver" members: "hosted")";
  EXPECT_OK(Check(speak("a", own), request));
  EXPECT_OK(Check(drafts + speak("a", own + R"( sees { node: "d" })"), request));
  const std::string once = "not what one member says once";
  for (const auto& [nodes, part] :
       {std::pair(speak("a", hosted), std::string("declare capability: LOGPROBS")),
        std::pair(speak("a", own + " samples: 2"), once), std::pair(speak("a", R"(role: "solver" members: "*")"), once),
        std::pair(drafts + speak("a", own + R"( each: "d")"), once),
        std::pair(drafts + R"(node { name: "v" pick { of: "d" by: MAJORITY } })", once),
        std::pair(speak("a", R"(role: "mended" members: "own")"), std::string("its role \"mended\" says by repair"))}) {
    EXPECT_THAT(Check(nodes, request), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(part))) << nodes;
  }
}

TEST(Abilities, TheRunsOwnSamplingCounts) {
  deliberation::v1::SamplingDefaults sampling;
  sampling.set_experts_per_token(4);
  const std::string nodes = R"(node { name: "a" speak { role: "solver" members: "hosted" } })";
  EXPECT_THAT(Check(nodes, sampling), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("experts_per_token")));
  sampling.clear_experts_per_token();
  sampling.set_repetition_penalty(1);  // asks for nothing
  EXPECT_OK(Check(nodes, sampling));
  sampling.set_repetition_penalty(1.1f);
  EXPECT_THAT(Check(nodes, sampling), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("repetition_penalty")));
}

}  // namespace
}  // namespace conclave::orchestrator
