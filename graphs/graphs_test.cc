// SPDX-License-Identifier: Apache-2.0
// Every shipped file loads, and every shipped graph can be run, priced, and is what the interface promises.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "common/file.h"
#include "engine/engine.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/cost_bound.h"
#include "orchestrator/graph/draw.h"
#include "orchestrator/run/machine.h"
#include "orchestrator/run/machine_testing.h"
#include "protos/textproto.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace fs = std::filesystem;

const std::string kGraphs = CONCLAVE_SOURCE_DIR "/graphs";
const std::vector<std::string> kMembers = {
    "solver",  "planner", "critic",         "verifier",        "cheap",           "dear",        "judge", "dense/a",
    "dense/b", "dense/c", "expert/algebra", "expert/geometry", "expert/counting", "expert/logic"};

std::vector<std::string> Files(const std::string& directory) {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".textproto") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

RoleLibrary Roles(const std::string& directory = kGraphs + "/roles") {
  RoleLibrary roles;
  EXPECT_OK(roles.AddDirectory(directory));
  return roles;
}

CompileResult CompileExample(const std::string& name, const RoleLibrary& roles) {
  const auto text = ReadFile(fmt::format("{}/examples/{}.textproto", kGraphs, name));
  EXPECT_OK(text);
  CompileResult compiled = CompileGraphText(text.value_or(""), name + ".textproto", roles);
  EXPECT_THAT(compiled.errors, ::testing::IsEmpty());
  return compiled;
}

TEST(ShippedFiles, EveryRoleLoads) {
  const RoleLibrary roles = Roles();
  EXPECT_EQ(roles.names().size(), Files(kGraphs + "/roles").size());
}

TEST(ShippedFiles, EveryGraphCompilesIsPricedAndCanBegin) {
  const RoleLibrary roles = Roles();
  std::vector<std::string> names;
  for (const std::string& file : Files(kGraphs)) {
    const auto text = ReadFile(file);
    ASSERT_OK(text);
    CompileResult compiled = CompileGraphText(*text, file, roles, GraphsIn({kGraphs}));
    EXPECT_THAT(compiled.errors, ::testing::IsEmpty()) << file;
    if (compiled.graph == nullptr) continue;
    names.push_back(compiled.graph->name());
    EXPECT_EQ(compiled.graph->name(), fs::path(file).stem().string()) << "a graph is found by its file's name";
    EXPECT_FALSE(compiled.graph->proto().description().empty()) << file;
    const auto binding = ResolveBinding(*compiled.graph, {}, kMembers);
    ASSERT_OK(binding) << file;
    CostInputs inputs;
    inputs.binding = *binding;
    inputs.members.resize(kMembers.size());
    const auto bound = BoundCost(*compiled.graph, inputs);
    ASSERT_OK(bound) << file;
    EXPECT_GT(bound->calls(), 0) << file;
    for (const std::string& picture :
         {DrawDot(*compiled.graph), DrawMermaid(*compiled.graph), DrawSvg(*compiled.graph)}) {
      for (const CompiledNode& node : compiled.graph->nodes()) {
        EXPECT_THAT(picture, ::testing::HasSubstr(node.name)) << file;
      }
    }
    RunSpec spec;
    spec.binding = *binding;
    for (const std::string& member : kMembers) spec.members.push_back({member, 1, {}});
    spec.inputs["question"] = "What is 6 times 7?";
    auto machine = Machine::Create(compiled.graph, spec);
    ASSERT_OK(machine) << file;
    const auto out = (*machine)->Step(Start{});
    ASSERT_OK(out) << file;
    EXPECT_FALSE(out->calls.empty()) << file;
  }
  EXPECT_THAT(names,
              ::testing::IsSupersetOf({"single", "vote", "weighted_vote", "best_of_n", "council", "reflect", "debate",
                                       "genselect", "mixture_of_agents", "ranked_council", "reconcile", "self_moa"}));
}

TEST(ShippedFiles, TheExampleIsShortAndItsVetoHolds) {
  const std::string folder = kGraphs + "/examples";
  const RoleLibrary roles = Roles(folder + "/roles");
  const auto text = ReadFile(folder + "/veto.textproto");
  ASSERT_OK(text);
  std::ptrdiff_t lines = std::count(text->begin(), text->end(), '\n');
  for (const char* role : {"advocate", "veto"}) {
    const std::string body = ReadFile(fmt::format("{}/roles/{}.textproto", folder, role)).value_or("");
    lines += std::count(body.begin(), body.end(), '\n');
  }
  EXPECT_LT(lines, 60) << "graph and roles together";
  const CompileResult compiled = CompileExample("veto", roles);
  ASSERT_NE(compiled.graph, nullptr);
  EXPECT_TRUE(DrawMermaid(*compiled.graph).find("ruling") != std::string::npos);
  // Left says 1 and right 2, every round. The judge vetoes 1: there is never one answer, and after three rounds 2 is
  // all that may win. When it vetoes both, there is no answer.
  for (const bool both : {false, true}) {
    const RunLog log =
        Drive(compiled.graph, SpecFor(*compiled.graph, {"left", "right", "judge"}), [&](const CallSpec& call) {
          const bool left = call.prompt->messages.back().content().find("An answer:\n#### 1") != std::string::npos;
          if (call.role == "veto")
            return Reply{Reply::Kind::kText, left || both ? "RULING: veto" : "RULING: pass", 10, 0.5};
          return Reply{Reply::Kind::kText, call.key.member() == "left" ? "#### 1" : "#### 2", 10, 0.5};
        });
    EXPECT_EQ(log.node("debate").rounds(), 3);
    EXPECT_EQ(log.finished().answer(), both ? "" : "2");
    EXPECT_EQ(log.finished().has_answer(), !both);
    EXPECT_EQ(log.finished().ledger().calls(), 14);
  }
}

// Two of four samples hang. When the others have answered they are asked again, and the second calls answer.
TEST(ShippedFiles, TheHedgedVoteDoesNotWaitForTheSlowest) {
  const RoleLibrary roles = Roles();
  const CompileResult compiled = CompileExample("hedged_vote", roles);
  ASSERT_NE(compiled.graph, nullptr);
  const RunLog log = Drive(compiled.graph, SpecFor(*compiled.graph, {"voter"}), [](const CallSpec& call) {
    const bool hangs = call.key.sample() >= 2 && call.key.attempt() == 0;
    return Reply{.kind = hangs ? Reply::Kind::kHang : Reply::Kind::kText,
                 .text = call.key.sample() == 0 ? "#### 1" : "#### 2"};
  });
  EXPECT_EQ(log.finished().answer(), "2");
  EXPECT_EQ(log.node("answer").utterance_count(), 4);
  EXPECT_EQ(log.finished().ledger().calls(), 6) << "the two that hung are charged, too";
  EXPECT_EQ(log.finished().hole_count(), 0);
}

// Left's samples say 4, sure 0.3 each, but one writes no JSON, nor when it is asked again; right's say 6, sure 0.4
// each.
TEST(ShippedFiles, AnOutlineIsReadByItsFields) {
  const RoleLibrary roles = Roles(kGraphs + "/examples/roles");
  const CompileResult compiled = CompileExample("outlined", roles);
  ASSERT_NE(compiled.graph, nullptr);
  for (const bool hard : {false, true}) {
    const RunLog log = Drive(compiled.graph, SpecFor(*compiled.graph, {"left", "right"}), [&](const CallSpec& call) {
      std::string json = R"({"work": "..", "result": {"value": 6}, "sure": 40})";
      if (call.role == "outliner") json = fmt::format(R"({{"steps": ["add", "halve"], "hard": {}}})", hard);
      if (call.role == "follower" && call.key.member() == "left") {
        json = call.key.sample() == 2 ? "4" : R"({"work": "..", "result": {"value": 4}, "sure": 30})";
      }
      return Reply{Reply::Kind::kText, json, 10, 0.5};
    });
    EXPECT_EQ(log.finished().answer(), hard ? "6" : "4") << "0.6 for 4, and perhaps 0.8 for 6";
    EXPECT_EQ(log.finished().ledger().calls(), hard ? 7 : 5);
    const auto& prompt = log.calls_of("draft")[0]->prompt();
    EXPECT_THAT(prompt[prompt.size() - 1].content(), ::testing::HasSubstr("\n1. add\n2. halve\nFollow these steps."));
  }
}

// Only the engine reads them.
TEST(ShippedFiles, WhatRolesWantOfOutputsCanBeHeldTo) {
  using Language = engine::Constraint::Language;
  int constrained = 0;
  for (const std::string& folder : {kGraphs + "/roles", kGraphs + "/examples/roles"}) {
    RoleLibrary roles;
    ASSERT_OK(roles.AddDirectory(folder));
    for (const std::string& name : roles.names()) {
      const auto constraint = roles.Find(name)->constraint;
      if (constraint == nullptr) continue;
      ++constrained;
      const Language language = constraint->has_json_schema() ? Language::kJsonSchema
                                : constraint->has_regex()     ? Language::kRegex
                                                              : Language::kGrammar;
      EXPECT_OK(
          engine::CheckConstraint({language, constraint->json_schema() + constraint->regex() + constraint->grammar()}))
          << name;
    }
  }
  EXPECT_GE(constrained, 1);
}

TEST(ShippedFiles, EveryFileSaysItsSchema) {
  for (const std::string& directory :
       {kGraphs, kGraphs + "/roles", kGraphs + "/examples", kGraphs + "/examples/roles"}) {
    for (const std::string& file : Files(directory)) {
      const auto text = ReadFile(file);
      ASSERT_OK(text);
      EXPECT_TRUE(text->starts_with("# proto-file: protos/conclave/deliberation/v1/")) << file;
      EXPECT_NE(text->find("\n# proto-message: "), std::string::npos) << file;
    }
  }
}

}  // namespace
}  // namespace conclave::orchestrator
