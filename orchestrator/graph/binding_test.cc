// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/binding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orchestrator/graph/compile.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(Glob, StarsAndQuestionMarks) {
  EXPECT_TRUE(GlobMatches("dense/*", "dense/a"));
  EXPECT_TRUE(GlobMatches("dense/*", "dense/"));
  EXPECT_FALSE(GlobMatches("dense/*", "dense"));
  EXPECT_TRUE(GlobMatches("*", ""));
  EXPECT_TRUE(GlobMatches("*a*b", "xaxbxb"));
  EXPECT_FALSE(GlobMatches("*a*b", "xaxbx"));
  EXPECT_TRUE(GlobMatches("m?", "m1"));
  EXPECT_FALSE(GlobMatches("m?", "m"));
  EXPECT_FALSE(GlobMatches("", "a"));
  EXPECT_TRUE(GlobMatches("", ""));
  // Quadratic at worst, never exponential.
  EXPECT_FALSE(GlobMatches("*a*a*a*a*a*a*a*a*a*b", std::string(2000, 'a')));
}

std::shared_ptr<const CompiledGraph> Graph() {
  RoleLibrary roles;
  EXPECT_OK(roles.AddDirectory(CONCLAVE_SOURCE_DIR "/graphs/roles"));
  return CompileGraphText(
             "name: \"g\" input { name: \"question\" }\n"
             "node { name: \"draft\" speak { role: \"solver\" members: \"dense/*\" members: \"extra\" } }\n"
             "node { name: \"verify\" judge { role: \"verifier\" members: \"verifier\" of: \"draft\" } }\n"
             "node { name: \"verdict\" pick { of: \"draft\" by: BEST_OF_N weight: \"verify.mean_score\" } }\n",
             "g.textproto", roles)
      .graph;
}

deliberation::v1::Binding Bind(const std::string& name, const std::vector<std::string>& members) {
  deliberation::v1::Binding binding;
  binding.set_name(name);
  for (const std::string& member : members) binding.add_members(member);
  return binding;
}

TEST(Binding, NamesGlobsAndOverrides) {
  const auto graph = Graph();
  const std::vector<std::string> members = {"dense/b", "dense/a", "moe", "extra"};
  const std::vector<deliberation::v1::Binding> bindings = {Bind("verifier", {"moe"}),
                                                           Bind("verifier", {"dense/a", "dense/*"})};
  const auto bound = ResolveBinding(*graph, bindings, members);
  ASSERT_OK(bound);
  EXPECT_THAT(*bound, ElementsAre(Pair("dense/*", ElementsAre(0, 1)), Pair("extra", ElementsAre(3)),
                                  Pair("verifier", ElementsAre(1, 0))));
  EXPECT_THAT(SeatsOf(*graph->Find("draft"), *bound), ElementsAre(0, 1, 3));
}

TEST(Binding, OneMemberInEverySeat) {
  const auto graph = Graph();
  const std::vector<std::string> members = {"moe"};
  const std::vector<deliberation::v1::Binding> bindings = {Bind("verifier", {"moe"}), Bind("dense/*", {"moe"}),
                                                           Bind("extra", {"m*"})};
  const auto bound = ResolveBinding(*graph, bindings, members);
  ASSERT_OK(bound);
  EXPECT_THAT(SeatsOf(*graph->Find("draft"), *bound), ElementsAre(0)) << "each speaks once";
}

TEST(Binding, EverythingUnboundIsToldAtOnce) {
  const std::vector<std::string> members = {"dense/a", "verifer"};
  const auto bound = ResolveBinding(*Graph(), {}, members);
  EXPECT_THAT(bound, testing::StatusIs(absl::StatusCode::kInvalidArgument));
  const std::string message(bound.status().message());
  EXPECT_THAT(message, HasSubstr("graph \"g\": node \"draft\": members \"extra\" are bound to nobody"));
  EXPECT_THAT(message,
              HasSubstr("node \"verify\": members \"verifier\" are bound to nobody; did you mean \"verifer\"?"));
  const std::vector<deliberation::v1::Binding> wrong = {Bind("extra", {"moe"})};
  EXPECT_THAT(std::string(ResolveBinding(*Graph(), wrong, members).status().message()),
              HasSubstr("members \"extra\" are bound to moe, which is no member"));
}

}  // namespace
}  // namespace conclave::orchestrator
