// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "common/file.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const RoleLibrary& Roles() {
  static const RoleLibrary* const roles = [] {
    auto* library = new RoleLibrary;
    EXPECT_OK(library->AddDirectory(CONCLAVE_SOURCE_DIR "/graphs/roles"));
    return library;
  }();
  return *roles;
}

std::vector<std::string> Errors(std::string_view text) { return CompileGraphText(text, "g.textproto", Roles()).errors; }

// The graph of the language's own description (specs/interface.md §5), with a place for a mistake.
std::string Council(std::string_view until) {
  return "# Plan, prove by several dense models, criticise and repair until the verifiers agree, then vote.\n"
         "name: \"council\"\n"
         "input { name: \"question\" }\n"
         "node { name: \"plan\"   speak { role: \"planner\" members: \"planner\" } }\n"
         "node { name: \"draft\"  speak { role: \"prover\" members: \"dense/*\" samples: 2 sees { node: \"plan\" part: "
         "ANSWER } } }\n"
         "node {\n"
         "  name: \"review\"\n"
         "  loop {\n"
         "    over: \"draft\" max_rounds: 3 until: \"" +
         std::string(until) +
         "\"\n"
         "    body { name: \"critique\" speak { role: \"critic\"   members: \"critic\"   sees { node: \"draft\" "
         "anonymous: "
         "true shuffle: true } } }\n"
         "    body { name: \"revise\"   speak { role: \"prover\"   members: \"dense/*\"  sees { node: \"critique\" } "
         "sees "
         "{ node: \"draft\" own: true } } }\n"
         "    body { name: \"verify\"   judge { role: \"verifier\" members: \"verifier\" of: \"revise\" samples: 3 "
         "exclude_self: true } }\n"
         "  }\n"
         "}\n"
         "node { name: \"verdict\" pick { of: \"review\" by: WEIGHTED_VOTE weight: \"verify.mean_score\" } }\n"
         "result: \"verdict\"\n"
         "budget { output_tokens: 20000 wall_time { seconds: 120 } on_exhausted: RETURN_BEST }\n";
}

TEST(Compile, TheExampleOfTheLanguage) {
  const CompileResult result =
      CompileGraphText(Council("verify.mean_score >= 0.9 or votes.margin >= 0.6"), "council.textproto", Roles());
  EXPECT_THAT(result.errors, ElementsAre());
  ASSERT_NE(result.graph, nullptr);
  const CompiledGraph& graph = *result.graph;
  EXPECT_EQ(graph.nodes().size(), 7u);
  EXPECT_EQ(graph.node(graph.result()).name, "verdict");
  const CompiledNode& review = *graph.Find("review");
  EXPECT_EQ(graph.node(review.yields).name, "revise");
  const CompiledNode& critique = *graph.Find("critique");
  EXPECT_EQ(critique.sees[0].node, review.index) << "in the body, `over` names the loop's current utterances";
  EXPECT_THAT(graph.MemberNames(), ElementsAre("critic", "dense/*", "planner", "verifier"));
}

TEST(Compile, AnUnknownNameSaysWhatIsKnown) {
  EXPECT_THAT(
      CompileGraphText(Council("votez.margin >= 0.6"), "council.textproto", Roles()).errors,
      ElementsAre("council.textproto:9: node \"review\": until reads \"votez.margin\"; known names here: round, "
                  "verify, votes"));
  EXPECT_THAT(
      CompileGraphText(Council("votes.margn >= 0.6"), "council.textproto", Roles()).errors,
      ElementsAre("council.textproto:9: node \"review\": until reads \"votes.margn\"; votes has: count, distinct, "
                  "margin, top, total"));
}

TEST(Compile, TheRevisionIsOfGraphAndRoles) {
  const auto a = CompileGraphText(Council("round > 1"), "a.textproto", Roles()).graph;
  const auto b = CompileGraphText("# another comment\n" + Council("round > 1"), "b.textproto", Roles()).graph;
  const auto c = CompileGraphText(Council("round > 2"), "a.textproto", Roles()).graph;
  EXPECT_EQ(a->revision(), b->revision());
  EXPECT_NE(a->revision(), c->revision());
  EXPECT_EQ(a->revision().size(), 64u);
  const auto again = CompileBundle(a->canonical());
  ASSERT_OK(again);
  EXPECT_EQ((*again)->revision(), a->revision());
}

TEST(Compile, MistakesOfNamesAreAllToldAtOnce) {
  EXPECT_THAT(Errors("name: \"g\"\ninput { name: \"question\" }\n"
                     "node { name: \"a\" speak { role: \"solvr\" members: \"m\" } }\n"
                     "node { name: \"a\" pick { of: \"b\" by: MAJORITY } }\n"
                     "node { name: \"Bad\" pick { of: \"a\" } }\n"
                     "node { name: \"round\" }\n"
                     "result: \"c\"\n"),
              ElementsAre("g.textproto:3: node \"a\": role \"solvr\" is unknown; did you mean \"solver\"?",
                          "g.textproto:4: node \"a\": the name is taken by the node of line 3; rename one",
                          "g.textproto:4: node \"a\": of names \"b\", which is no node; did you mean \"a\"?",
                          "g.textproto:5: node \"Bad\": a name is [a-z][a-z0-9_]*, at most 64 characters; rename it",
                          "g.textproto:5: node \"Bad\": no rule; add by: MAJORITY, WEIGHTED_VOTE, BEST_OF_N or FIRST",
                          "g.textproto:6: node \"round\": the name is a word of the expression language; rename it",
                          "g.textproto:6: node \"round\": no kind; add one of speak, judge, pick, check, loop, branch",
                          "g.textproto:7: result names \"c\", which is no node at the top of the graph; did you mean "
                          "\"a\"?"));
}

}  // namespace
}  // namespace conclave::orchestrator
