// SPDX-License-Identifier: Apache-2.0
// Graphs in graphs: what is found, what is refused, and that the compiled whole needs no library any more.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "common/status.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/cost_bound.h"
#include "orchestrator/graph/draw.h"
#include "orchestrator/graph/graph_testing.h"
#include "orchestrator/graph/limits.h"
#include "protos/textproto.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A library in memory.
FindGraph From(std::map<std::string, std::string> texts) {
  return [texts = std::move(texts)](const std::string& name) -> absl::StatusOr<deliberation::v1::Graph> {
    const auto found = texts.find(name);
    if (found == texts.end()) return NotFound("it is not there");
    deliberation::v1::Graph graph;
    EXPECT_THAT(ParseTextproto(found->second, &graph).errors, IsEmpty());
    return graph;
  };
}

std::string Graph(std::string_view name, std::string_view nodes) {
  return fmt::format("name: \"{}\" input {{ name: \"question\" }}\n{}", name, nodes);
}

constexpr std::string_view kVote =
    "node { name: \"draft\" speak { role: \"solver\" members: \"m\" } }\n"
    "node { name: \"verdict\" pick { of: \"draft\" by: MAJORITY } }\n";

std::string CallOf(std::string_view graph, std::string_view more = "", std::string_view name = "c") {
  return fmt::format("node {{ name: \"{}\" call {{ graph: \"{}\" {} }} }}\n", name, graph, more);
}

CompileResult Compiled(std::string_view nodes, std::map<std::string, std::string> library) {
  return CompileGraphText(Graph("g", nodes), "g.textproto", ShippedRoles(), From(std::move(library)));
}

std::vector<std::string> Errors(std::string_view nodes, std::map<std::string, std::string> library) {
  return Compiled(nodes, std::move(library)).errors;
}

TEST(Calls, NamesInsideAreItsOwn) {
  const auto graph =
      Compiled(std::string(kVote) + CallOf("v") + CallOf("v", "", "d") +
                   "node { name: \"last\" pick { of: \"c\" also: \"d\" also: \"verdict\" by: MAJORITY } }",
               {{"v", Graph("v", kVote)}})
          .graph;
  ASSERT_NE(graph, nullptr);
  const CompiledNode& inside = *graph->Find("c.verdict");
  EXPECT_EQ(inside.of, graph->Find("c.draft")->index);
  EXPECT_EQ(graph->Find("d.verdict")->of, graph->Find("d.draft")->index);
  EXPECT_EQ(graph->Find("verdict")->of, graph->Find("draft")->index);
  EXPECT_EQ(graph->Find("c")->yields, inside.index);
  EXPECT_EQ(graph->FindIn(graph->Find("d")->index, "draft"), graph->Find("d.draft"));
  EXPECT_THAT(graph->MemberNames(), ElementsAre("m"));
}

TEST(Calls, WhatIsCompiledNeedsNoLibraryAnyMore) {
  const auto graph = Compiled(CallOf("v"), {{"v", Graph("v", kVote)}}).graph;
  ASSERT_NE(graph, nullptr);
  const auto again = CompileBundle(graph->canonical());
  ASSERT_OK(again);
  EXPECT_EQ((*again)->revision(), graph->revision());
  const auto other = Compiled(CallOf("v"), {{"v", Graph("v", std::string(kVote) + "budget { calls: 1 }")}}).graph;
  EXPECT_NE(other->revision(), graph->revision()) << "what is called is part of what the graph does";
}

TEST(Calls, NothingOutsideIsSeenInsideNorInsideOutside) {
  EXPECT_THAT(Errors("node { name: \"plan\" speak { role: \"solver\" members: \"m\" } }\n" +
                         CallOf("v", "argument { name: \"question\" value: \"{{ plan.text }}\" }"),
                     {{"v", Graph("v", "node { name: \"a\" pick { of: \"plan\" by: FIRST } }")}}),
              ElementsAre("g.textproto:3: node \"c.a\": of names \"plan\", which is no node; there are none"));
  EXPECT_THAT(Errors(CallOf("v") + "node { name: \"p\" pick { of: \"draft\" by: FIRST } }", {{"v", Graph("v", kVote)}}),
              Contains("g.textproto:3: node \"p\": of names \"draft\", which is no node; known nodes here: c"));
  // Judges inside say nothing to conditions outside, and inputs outside are none inside.
  EXPECT_THAT(Errors(CallOf("v") + "node { name: \"p\" when: \"j.accepted > 0\" pick { of: \"c\" by: FIRST } }",
                     {{"v", Graph("v", std::string(kVote) + "node { name: \"j\" judge { role: \"verifier\" members: "
                                                            "\"m\" of: \"verdict\" } } node { name: \"x\" pick { of: "
                                                            "\"draft\" by: BEST_OF_N weight: \"j.mean_score\" } }")}}),
              Contains("g.textproto:3: node \"p\": when reads \"j.accepted\"; known names here: inputs, round, votes"));
  EXPECT_THAT(Errors(CallOf("v", "argument { name: \"topic\" value: \"x\" }"),
                     {{"v", "name: \"v\" input { name: \"topic\" } " + std::string(kVote)}}),
              Contains(HasSubstr("node \"c.draft\": role \"solver\" reads \"question\"")));
}

TEST(Calls, EachMistakeHasItsFix) {
  const std::string vote = Graph("v", kVote);
  const std::map<std::string, std::string> library = {
      {"v", vote},
      {"w", vote},
      {"topic", "name: \"topic\" input { name: \"question\" } input { name: \"topic\" } " + std::string(kVote)},
      {"choice", Graph("choice", std::string(kVote) + "equivalence: \"choice\"")},
      {"empty", "name: \"empty\""},
      {"judged",
       Graph("judged", std::string(kVote) + "node { name: \"j\" judge { role: \"verifier\" members: \"m\" of: "
                                            "\"verdict\" } } result: \"j\"")},
      {"lost", Graph("lost", std::string(kVote) + "result: \"nobody\"")},
      {"poor", Graph("poor", std::string(kVote) + "budget { calls: -1 }")},
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {CallOf(""), "node \"c\": calls no graph; add graph: a name of the library"},
      {CallOf("nobody"), "node \"c\": calls graph \"nobody\": it is not there"},
      {CallOf("w"), "node \"c\": calls graph \"w\", which says that it is \"v\"; make the names the same"},
      {CallOf("g"), "node \"c\": the calls go in a circle: g calls g; a graph never calls itself"},
      {CallOf("topic"),
       "node \"c\": graph \"topic\" needs input \"topic\", which is no input here; add argument { name: "
       "\"topic\" value: \"..\" }"},
      {CallOf("v", "argument { name: \"questoin\" value: \"x\" }"),
       "node \"c\": graph \"v\" has no input \"questoin\"; did you mean \"question\"?"},
      {CallOf("v", "argument { name: \"question\" value: \"x\" } argument { name: \"question\" value: \"y\" }"),
       "node \"c\": argument \"question\" is given twice; remove one"},
      {CallOf("v", "argument { name: \"question\" value: \"{{ nobody.text }}\" }"),
       "node \"c\": argument \"question\" names \"nobody\", which is no node; there are none"},
      {CallOf("v", "argument { name: \"question\" value: \"{{ c.text }}\" }"),
       "node \"c\": argument \"question\" names the node itself; name an earlier node"},
      {CallOf("choice"),
       "node \"c\": graph \"choice\" compares answers as \"choice\", and here they are compared as "
       "\"gsm8k\"; use one"},
      {CallOf("empty"), "node \"c\": graph \"empty\" has no nodes; add a node"},
      {CallOf("judged"),
       "node \"c\": graph \"judged\": the result is judge \"j\", which holds no utterances; name a "
       "speak, pick, loop, branch or call"},
      {CallOf("lost"),
       "node \"c\": graph \"lost\": result names \"nobody\", which is no node at the top of the graph; "
       "nodes are: draft, verdict"},
      {CallOf("poor"), "node \"c\": budget \"poor\": limits are at least 0; leave out a unit that is not limited"},
  };
  for (const auto& [nodes, error] : cases) {
    EXPECT_THAT(Errors(nodes, library), Contains("g.textproto:2: " + error)) << nodes;
  }
  EXPECT_THAT(CompileGraphText(Graph("g", CallOf("v")), "g.textproto", ShippedRoles()).errors,
              ElementsAre("g.textproto:2: node \"c\": calls graph \"v\": there is no library of graphs here"));
}

TEST(Calls, SeedsAreNeededWhereWhatIsCalledNeedsThem) {
  EXPECT_TRUE(
      Compiled(CallOf("v"), {{"v", Graph("v", std::string(kVote) + "needs_seeds: true")}}).graph->needs_seeds());
  EXPECT_FALSE(Compiled(CallOf("v"), {{"v", Graph("v", kVote)}}).graph->needs_seeds());
}

TEST(Calls, ACircleOfSeveralIsNamed) {
  EXPECT_THAT(Errors(CallOf("a"), {{"a", Graph("a", CallOf("b"))}, {"b", Graph("b", CallOf("a"))}}),
              ElementsAre("g.textproto:2: node \"c.c.c\": the calls go in a circle: g calls a calls b calls a; a graph "
                          "never calls itself"));
}

TEST(CallLimits, Depth) {
  // g calls n1, which calls n2, ..; the last one votes.
  const auto deep = [](int calls) {
    std::map<std::string, std::string> library;
    for (int i = 1; i < calls; ++i) {
      library[fmt::format("n{}", i)] = Graph(fmt::format("n{}", i), CallOf(fmt::format("n{}", i + 1)));
    }
    library[fmt::format("n{}", calls)] = Graph(fmt::format("n{}", calls), kVote);
    return Errors(CallOf("n1"), library);
  };
  EXPECT_THAT(deep(kCallDepthMax), IsEmpty());
  EXPECT_THAT(deep(kCallDepthMax + 1),
              ElementsAre("g.textproto:2: node \"c.c.c.c.c\": g calls n1 calls n2 calls n3 calls "
                          "n4 calls n5: 5 calls deep, at most 4 allowed; call less, or copy "
                          "nodes"));
}

TEST(CallLimits, NodesOfAllTogether) {
  // A call and its two nodes are three; 85 of them and one more are 256.
  const auto many = [](int more) {
    std::string nodes;
    for (int i = 0; i < 85; ++i) nodes += CallOf("v", "", fmt::format("c{}", i));
    for (int i = 0; i < more; ++i) {
      nodes += fmt::format("node {{ name: \"p{}\" speak {{ role: \"solver\" members: \"m\" }} }}\n", i);
    }
    return Errors(nodes, {{"v", Graph("v", kVote)}});
  };
  EXPECT_THAT(many(1), Not(Contains(HasSubstr("one too many"))));
  EXPECT_THAT(many(2), Contains(HasSubstr("at most 256 nodes, bodies and called graphs included")));
}

TEST(CallLimits, GraphsThatMultiplyEndAtTheLimitOfNodes) {
  // 40 calls of 40 calls of 40 calls: nobody reads 64,000 graphs.
  int read = 0;
  const auto multiply = [](int level) {
    std::string nodes;
    for (int i = 0; i < 40; ++i) nodes += CallOf(fmt::format("n{}", level + 1), "", fmt::format("c{}", i));
    return nodes;
  };
  const FindGraph library =
      From({{"n1", Graph("n1", multiply(1))}, {"n2", Graph("n2", multiply(2))}, {"n3", Graph("n3", kVote)}});
  const CompileResult result = CompileGraphText(Graph("g", multiply(0)), "g.textproto", ShippedRoles(),
                                                [&](const std::string& name) { return ++read, library(name); });
  EXPECT_THAT(result.errors, Contains(HasSubstr("at most 256 nodes")));
  EXPECT_LE(read, kGraphNodesMax);
}

TEST(CallLimits, ArgumentsAreAsLongAsExpressions) {
  const auto argument = [](size_t bytes) {
    return Errors(CallOf("v", fmt::format("argument {{ name: \"question\" value: \"{}\" }}", std::string(bytes, 'x'))),
                  {{"v", Graph("v", kVote)}});
  };
  EXPECT_THAT(argument(kExpressionBytesMax), IsEmpty());
  EXPECT_THAT(argument(kExpressionBytesMax + 1), Contains(HasSubstr("has 4097 characters, at most 4096 allowed")));
}

TEST(Calls, CostIsThatOfWhatIsCalled) {
  const auto graph = Compiled("node { name: \"l\" loop { max_rounds: 3 body { name: \"c\" call { graph: \"v\" } } } }",
                              {{"v", Graph("v", kVote)}})
                         .graph;
  ASSERT_NE(graph, nullptr);
  CostInputs inputs;
  inputs.binding["m"] = {0, 1};
  inputs.members.resize(2);
  const auto bound = BoundCost(*graph, inputs);
  ASSERT_OK(bound);
  EXPECT_EQ(bound->calls(), 3 * 2);
}

TEST(Calls, ThePictureHasTheGraphInAFrame) {
  const auto graph =
      Compiled(std::string(kVote) + CallOf("v", "argument { name: \"question\" value: \"{{ verdict.text }}\" }"),
               {{"v", Graph("v", kVote)}})
          .graph;
  ASSERT_NE(graph, nullptr);
  const std::string svg = DrawSvg(*graph);
  for (const char* place : {"draft", "c", "c.draft", "c.verdict"}) {
    EXPECT_THAT(svg, HasSubstr(fmt::format("<rect data-node=\"{}\"", place)));
  }
  EXPECT_THAT(svg, HasSubstr("data-from=\"verdict\" data-to=\"c\""));
  EXPECT_THAT(svg, HasSubstr("graph v"));
  EXPECT_THAT(DrawDot(*graph), HasSubstr("\"c-draft\" -> \"c-verdict\""));
  EXPECT_THAT(DrawMermaid(*graph), HasSubstr("n_c-draft --> n_c-verdict"));
}

TEST(GraphsIn, TheFirstDirectoryThatHasItIsTaken) {
  const conclave::testing::TempDir first, second;
  const auto write = [](const std::string& path, const std::string& text) { std::ofstream(path) << text; };
  write(first.path() + "/a.textproto", Graph("a", kVote));
  write(second.path() + "/a.textproto", Graph("other", kVote));
  write(second.path() + "/b.textproto", Graph("b", kVote));
  write(second.path() + "/torn.textproto", "name: \"torn\"\nnode {");
  const FindGraph find = GraphsIn({first.path(), second.path()});
  EXPECT_EQ(find("a")->name(), "a");
  EXPECT_EQ(find("b")->name(), "b");
  EXPECT_EQ(find("c").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(find("torn").status().message()), HasSubstr("torn.textproto:2: "));
  for (const char* outside : {"../a", "/etc/passwd", "a.textproto", "", "A"}) {
    EXPECT_EQ(find(outside).status().code(), absl::StatusCode::kNotFound) << outside;
  }
}

}  // namespace
}  // namespace conclave::orchestrator
