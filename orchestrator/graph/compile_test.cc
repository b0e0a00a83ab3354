// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "common/file.h"
#include "orchestrator/graph/graph_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Errors(std::string_view text) {
  return CompileGraphText(text, "g.textproto", ShippedRoles()).errors;
}

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
      CompileGraphText(Council("verify.mean_score >= 0.9 or votes.margin >= 0.6"), "council.textproto", ShippedRoles());
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
      CompileGraphText(Council("votez.margin >= 0.6"), "council.textproto", ShippedRoles()).errors,
      ElementsAre("council.textproto:9: node \"review\": until reads \"votez.margin\"; known names here: round, "
                  "verify, votes"));
  EXPECT_THAT(
      CompileGraphText(Council("votes.margn >= 0.6"), "council.textproto", ShippedRoles()).errors,
      ElementsAre("council.textproto:9: node \"review\": until reads \"votes.margn\"; votes has: count, distinct, "
                  "margin, sure, top, total, unchanged"));
}

TEST(Compile, TheRevisionIsOfGraphAndRoles) {
  const auto a = CompileGraphText(Council("round > 1"), "a.textproto", ShippedRoles()).graph;
  const auto b = CompileGraphText("# another comment\n" + Council("round > 1"), "b.textproto", ShippedRoles()).graph;
  const auto c = CompileGraphText(Council("round > 2"), "a.textproto", ShippedRoles()).graph;
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
                          "g.textproto:5: node \"Bad\": no rule; add by: MAJORITY, WEIGHTED_VOTE, BEST_OF_N, FIRST, "
                          "AB_MCTS_M or AB_MCTS_A",
                          "g.textproto:6: node \"round\": the name is a word of the expression language; rename it",
                          "g.textproto:6: node \"round\": no kind; add one of speak, judge, pick, check, loop, branch, "
                          "call",
                          "g.textproto:7: result names \"c\", which is no node at the top of the graph; did you mean "
                          "\"a\"?"));
}

// A draft to refer to, on lines 1 to 3.
std::string WithDraft(const std::string& rest) {
  return "name: \"g\" input { name: \"question\" }\n\n"
         "node { name: \"draft\" speak { role: \"solver\" members: \"m\" } }\n" +
         rest;
}

TEST(Compile, EachMistakeHasItsFix) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"node { name: \"p\" pick { of: \"drafd\" by: FIRST } }",
       "g.textproto:4: node \"p\": of names \"drafd\", which is no node; did you mean \"draft\"?"},
      {"node { name: \"p\" pick { by: FIRST } }", "g.textproto:4: node \"p\": of is missing; name a node"},
      {"node { name: \"p\" pick { of: \"p\" by: FIRST } }",
       "g.textproto:4: node \"p\": of names the node itself; name an earlier node"},
      {"node { name: \"v\" judge { role: \"solver\" members: \"m\" of: \"draft\" } }",
       "g.textproto:4: node \"v\": role \"solver\" gives no verdict; name a role whose contract is verdict {..}"},
      {"node { name: \"s\" speak { role: \"verifier\" members: \"m\" } }",
       "g.textproto:4: node \"s\": role \"verifier\" gives verdicts; use judge, or a role that answers"},
      {"node { name: \"v\" judge { role: \"verifier\" members: \"m\" of: \"draft\" } }\n"
       "node { name: \"p\" pick { of: \"v\" by: FIRST } }",
       "g.textproto:5: node \"p\": of names judge \"v\", which holds no utterances of its own; name what it assessed: "
       "\"draft\""},
      {"node { name: \"p\" pick { of: \"draft\" by: WEIGHTED_VOTE weight: \"verify.mean_score\" } }",
       "g.textproto:4: node \"p\": weight reads \"verify.mean_score\"; known names here: confidence, member, round, "
       "text_length"},
      {"node { name: \"p\" pick { of: \"draft\" by: MAJORITY weight: \"1\" } }",
       "g.textproto:4: node \"p\": weight has no meaning for MAJORITY; remove it or use WEIGHTED_VOTE"},
      {"node { name: \"p\" when: \"votes.margin >=\" pick { of: \"draft\" by: FIRST } }",
       "g.textproto:4: node \"p\": when"},
      {"node { name: \"s\" speak { role: \"solver\" members: \"m\" sees { node: \"draft\" own: true others: true } } }",
       "g.textproto:4: node \"s\": sees asks for own and others, which is all; remove both"},
      {"node { name: \"c\" check { of: \"draft\" checker: EXACT } }\nnode { name: \"p\" pick { of: \"draft\" by: "
       "BEST_OF_N "
       "weight: \"c.passed\" } }",
       "g.textproto:4: node \"c\": EXACT compares with nothing; add expected: \"{{ inputs.NAME }}\""},
      {"node { name: \"l\" loop { over: \"draft\" max_rounds: 2 body { name: \"x\" pick { of: \"draft\" by: FIRST } } "
       "} }\n"
       "node { name: \"p\" pick { of: \"x\" by: FIRST } }",
       "g.textproto:5: node \"p\": of names \"x\", which is inside loop \"l\"; name \"l\""},
      {"node { name: \"l\" loop { over: \"draft\" max_rounds: 2 yields: \"y\" body { name: \"x\" pick { of: \"draft\" "
       "by: "
       "FIRST } } } }",
       "g.textproto:4: node \"l\": yields names \"y\", which is no node of the body; did you mean \"x\"?"},
      {"node { name: \"spare\" speak { role: \"solver\" members: \"m\" } }\nresult: \"draft\"",
       "g.textproto:4: node \"spare\": nothing leads from it to the result \"draft\"; use it or remove it"},
      {"node { name: \"s\" speak { role: \"solver\" members: \"m\" sampling { top_p: 1.5 } } }",
       "g.textproto:4: node \"s\": top_p is 1.5; it must be in (0, 1]"},
      {"equivalence: \"gsm9k\"", "g.textproto:4: equivalence:"},
      {"budget { calls: -1 }", "g.textproto:4: budget \"graph\": limits are at least 0"},
      {"nodes { }", "g.textproto:4: Graph has no field \"nodes\"; did you mean \"node\"?"},
      {"input { name: \"Question\" }",
       "g.textproto:4: input \"Question\"; a name is [a-z_][a-z0-9_]*, at most 64 characters"},
      {"node { name: \"b\" branch { condition: \"1\" then { name: \"x\" pick { of: \"draft\" by: FIRST } } } }",
       "g.textproto:4: node \"b\": otherwise is empty; add nodes, or otherwise_value: an earlier node"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_THAT(Errors(WithDraft(text)), ::testing::Contains(::testing::StartsWith(expected))) << text;
  }
}

TEST(Compile, OnlyALoopGoesRound) {
  EXPECT_THAT(Errors("name: \"g\" input { name: \"question\" }\n"
                     "node { name: \"a\" speak { role: \"solver\" members: \"m\" sees { node: \"c\" } } }\n"
                     "node { name: \"b\" speak { role: \"solver\" members: \"m\" sees { node: \"a\" } } }\n"
                     "node { name: \"c\" speak { role: \"solver\" members: \"m\" sees { node: \"b\" } } }\n"),
              ElementsAre("g.textproto:2: node \"a\": waits for \"c\", which waits for \"b\", which waits for \"a\"; "
                          "only a loop can go round"));
}

TEST(Compile, NodesMayStandInAnyOrder) {
  const auto result = CompileGraphText(
      "name: \"g\" input { name: \"question\" }\n"
      "node { name: \"verdict\" pick { of: \"draft\" by: BEST_OF_N weight: \"verify.mean_score\" } }\n"
      "node { name: \"verify\" judge { role: \"verifier\" members: \"m\" of: \"draft\" } }\n"
      "node { name: \"draft\" speak { role: \"solver\" members: \"m\" } }\n"
      "result: \"verdict\"\n",
      "g.textproto", ShippedRoles());
  EXPECT_THAT(result.errors, ElementsAre());
  ASSERT_NE(result.graph, nullptr);
  std::vector<std::string> order;
  for (const int32_t index : result.graph->sequence(0).nodes) order.push_back(result.graph->node(index).name);
  EXPECT_THAT(order, ElementsAre("draft", "verify", "verdict"));
}

TEST(Compile, PromptsReadOnlyWhatIsThere) {
  RoleLibrary roles;
  EXPECT_THAT(roles.AddText("name: \"r\" task: \"{{ questoin }} {{ seen_draft }}\" answer {}", "r.textproto"),
              ElementsAre());
  EXPECT_THAT(
      CompileGraphText("name: \"g\" input { name: \"question\" }\n"
                       "node { name: \"a\" speak { role: \"r\" members: \"m\" } }\n",
                       "g.textproto", roles)
          .errors,
      ElementsAre("g.textproto:2: node \"a\": role \"r\" reads \"questoin\" in its task; known names here: member, "
                  "question, round, sample, seen, subject",
                  "g.textproto:2: node \"a\": the role names \"draft\", which is no node; there are none"));
}

TEST(Compile, ComparisonsAreToldFromVerdicts) {
  const std::string draft =
      "name: \"g\" input { name: \"question\" }\nnode { name: \"d\" speak { role: \"solver\" members: \"m\" } }\n";
  const auto errors = [&](const std::string& judge, const std::string& weight) {
    return Errors(draft + "node { name: \"j\" judge { members: \"m\" of: \"d\" " + judge +
                  " } }\nnode { name: \"p\" pick { of: \"d\" by: BEST_OF_N weight: \"" + weight + "\" } }\n");
  };
  EXPECT_THAT(errors("role: \"selector\" method: CHOICE", "j.wins / (1 + j.shown)"), ::testing::IsEmpty());
  EXPECT_THAT(errors("role: \"verifier\" method: RANKING", "j.mean_score"),
              ::testing::Contains(
                  "g.textproto:3: node \"j\": role \"verifier\" gives no ranking; name a role whose contract is "
                  "ranking {..}, or judge by another method"));
  EXPECT_THAT(errors("role: \"selector\"", "j.mean_score"), ::testing::Contains(HasSubstr("gives no verdict")));
  EXPECT_THAT(
      errors("role: \"verifier\" window: 4", "j.mean_score"),
      ElementsAre("g.textproto:3: node \"j\": window has no meaning for a method that compares nothing; remove it"));
  EXPECT_THAT(errors("role: \"selector\" method: PAIRS window: 4", "j.mean_score"),
              ElementsAre(HasSubstr("window has no meaning for PAIRS")));
  EXPECT_THAT(errors("role: \"selector\" method: CHOICE", "j.accepts"),
              ElementsAre(HasSubstr("weight reads \"j.accepts\"; j has: mean_score, shown, wins")));
  EXPECT_THAT(errors("role: \"verifier\"", "j.wins"),
              ElementsAre(HasSubstr("j has: accepts, lowest, mean_score, open, proved, ready, rejects")));
  EXPECT_THAT(Errors(draft + "node { name: \"s\" speak { role: \"selector\" members: \"m\" } }"),
              ::testing::Contains(HasSubstr("role \"selector\" gives rankings; use judge, or a role that answers")));
  EXPECT_THAT(errors("role: \"selector\" method: CHOICE", "j.judgements"), ElementsAre(HasSubstr("j has: ")));
}

TEST(Compile, PicksOfSeveral) {
  const std::string two =
      "name: \"g\" input { name: \"question\" }\nnode { name: \"a\" speak { role: \"solver\" members: \"m\" } }\n"
      "node { name: \"b\" speak { role: \"solver\" members: \"m\" } }\n";
  const auto errors = [&](const std::string& pick) {
    return Errors(two + "node { name: \"p\" pick { " + pick + " } }");
  };
  EXPECT_THAT(errors("of: \"a\" also: \"b\" by: FIRST keep: 2 where: \"text_length > 3 and confidence >= 0.5\""),
              ::testing::IsEmpty());
  EXPECT_THAT(errors("of: \"a\" also: \"c\" by: FIRST"), ::testing::Contains(HasSubstr("also names \"c\"")));
  EXPECT_THAT(errors("of: \"a\" also: \"b\" by: MAJORITY keep: 2"),
              ElementsAre("g.textproto:4: node \"p\": keep has no meaning for MAJORITY; use BEST_OF_N or FIRST"));
  EXPECT_THAT(errors("of: \"a\" also: \"b\" by: FIRST where: \"votes.top > 0\""),
              ElementsAre(HasSubstr("where reads \"votes.top\"; known names here: confidence, member, round")));
}

TEST(Compile, NeighboursAreNotTheReader) {
  const auto errors = [&](const std::string& sees) {
    return Errors(
        "name: \"g\" input { name: \"question\" }\nnode { name: \"a\" speak { role: \"solver\" members: \"m\" } "
        "}\nnode { name: \"b\" speak { role: \"debater\" members: \"m\" sees { node: \"a\" " +
        sees + " } } }");
  };
  EXPECT_THAT(errors("among: RING by_sample: true memory: 2"), ::testing::IsEmpty());
  EXPECT_THAT(
      errors("among: STAR own: true"),
      ElementsAre("g.textproto:3: node \"b\": sees asks for own and STAR, which never shows the reader's own; add "
                  "a second sees with own"));
}

TEST(Compile, OnlyUntilKnowsWhetherTheMajorityMoved) {
  EXPECT_THAT(Errors(Council("votes.unchanged >= 2")), ::testing::IsEmpty());
  EXPECT_THAT(Errors("name: \"g\" input { name: \"question\" }\n"
                     "node { name: \"a\" speak { role: \"solver\" members: \"m\" } }\n"
                     "node { name: \"b\" when: \"votes.unchanged > 1\" pick { of: \"a\" by: FIRST } }"),
              ElementsAre(HasSubstr("votes has: count, distinct, margin, sure, top, total")));
}

// A speak, a judge of it, and a pick, with a place for a mistake in each.
std::string Three(const std::string& speak, const std::string& judge, const std::string& pick) {
  return "name: \"g\" input { name: \"question\" }\n"
         "node { name: \"a\" speak { members: \"m\" role: \"solver\" " +
         speak +
         " } }\n"
         "node { name: \"j\" judge { members: \"m\" of: \"a\" " +
         judge +
         " } }\n"
         "node { name: \"p\" pick { of: \"a\" by: BEST_OF_N " +
         pick + " } }\n";
}
const std::string kVerifier = "role: \"verifier\"";
const std::string kScore = "weight: \"j.mean_score\"";

TEST(Compile, EarlyEnds) {
  EXPECT_THAT(Errors(Three("stop { rule: DIRICHLET confidence: 0.9 wave: 4 }", kVerifier + " strict: true", kScore)),
              ::testing::IsEmpty());
  const std::vector<std::pair<std::string, std::string>> speaks = {
      {"stop {}", "stop has no rule; add rule: BETA, DIRICHLET or WINDOW"},
      {"stop { rule: BETA confidence: 1 }", "confidence is 1; it must be above 0.5 and below 1"},
      {"stop { rule: BETA confidence: 0.5 }", "confidence is 0.5;"},
      {"stop { rule: WINDOW confidence: 0.9 }", "confidence has no meaning for WINDOW; remove it"},
      {"stop { rule: BETA } quorum: 1", "quorum and stop at once"},
      {"patience { seconds: 1 }", "patience begins when a quorum is there; add quorum, or remove it"},
      {"quorum: 1 patience {}", "patience is 0 s and 0 ns; more than 0, at most 3600 s allowed"},
      {"hedge {}", "hedge does not say when; add when_done: a number of calls, or after { seconds: .. }"},
      {"hedge { when_done: -1 }", "when_done is -1; 0 (their number does not matter) or more allowed"},
      {"hedge { after { seconds: -1 } }", "after is -1 s and 0 ns; more than 0"},
      {"stop { rule: BETA } hedge { when_done: 1 }", "hedge and stop at once"},
      {"assign: TURNS", "assign says who takes an utterance of each, and there is none; add each"},
      {"worth: \"1\"", "worth has no meaning without assign: UCB; remove it"},
      {"sees { node: \"a\" of_subject: true }", "no call here is about one utterance; remove it, or add each"},
      {"each: \"nobody\"", "each names \"nobody\""}};
  for (const auto& [speak, error] : speaks) {
    EXPECT_THAT(Errors(Three(speak, kVerifier, kScore)), ::testing::Contains(HasSubstr(error))) << speak;
  }
  const std::vector<std::pair<std::string, std::string>> judges = {
      {kVerifier + " wave: 2", "wave has no meaning without strict; remove it"},
      {kVerifier + " strict: true hedge { when_done: 1 }", "hedge and strict at once"},
      {kVerifier + " only_self: true exclude_self: true", "only_self and exclude_self leave nobody; remove one"},
      {kVerifier + " follow: true", "role \"verifier\" has a system message, which cannot follow a conversation"},
      {"role: \"selector\" method: PAIRS strict: true", "strict has no meaning for a judge that compares; remove it"},
      {kVerifier + " where: \"votes.top > 1\"",
       "where reads \"votes.top\"; known names here: confidence, member, own_score"}};
  for (const auto& [judge, error] : judges) {
    EXPECT_THAT(Errors(Three("", judge, "")), ::testing::Contains(HasSubstr(error))) << judge;
  }
  EXPECT_THAT(
      Errors(Three("", kVerifier, "weight: \"j.valid\"")),
      ElementsAre("g.textproto:4: node \"p\": weight asks which judgements of \"j\" are valid, and nobody judges them; "
                  "add a judge with of: \"j\""));
  EXPECT_THAT(Errors(Three("", kVerifier, "weight: \"likelihood\"")),
              ::testing::Contains(HasSubstr("weight reads \"likelihood\"")));
  EXPECT_THAT(
      Errors(Three("confidence_window: 9", kVerifier, "weight: \"likelihood * token_confidence.tail + j.lowest\"")),
      ::testing::IsEmpty());
}

TEST(Compile, SearchesNeedRewards) {
  const std::string draft =
      "name: \"g\" input { name: \"question\" }\nnode { name: \"a\" speak { role: \"solver\" members: \"m\" } }\n";
  EXPECT_THAT(Errors(draft + "node { name: \"p\" pick { of: \"a\" by: AB_MCTS_M keep: 2 } }"),
              ElementsAre("g.textproto:3: node \"p\": AB_MCTS_M needs rewards; add weight: \"..\", in [0, 1]"));
  EXPECT_THAT(Errors(draft + "node { name: \"p\" pick { of: \"a\" by: AB_MCTS_A keep: 2 weight: \"confidence\" } }"),
              ::testing::IsEmpty());
  EXPECT_THAT(Errors(draft + "node { name: \"b\" speak { role: \"refiner\" members: \"m\" each: \"a\" assign: UCB } }"),
              ElementsAre(HasSubstr("UCB needs worth: an expression")));
}

TEST(Compile, LabelsAreReadByConditionsOnly) {
  const std::string level =
      "name: \"g\" input { name: \"question\" }\nnode { name: \"l\" speak { role: \"difficulty\" members: \"m\" } }\n";
  EXPECT_THAT(
      Errors(level + "node { name: \"a\" when: \"l.label != 'hard'\" speak { role: \"solver\" members: \"m\" } }"),
      ::testing::IsEmpty());
  EXPECT_THAT(
      Errors(level + "node { name: \"a\" when: \"l.lable == 'hard'\" speak { role: \"solver\" members: \"m\" } }"),
      ElementsAre(HasSubstr("when reads \"l.lable\"; l has: label")));
  EXPECT_THAT(
      Errors(level + "node { name: \"p\" pick { of: \"l\" by: BEST_OF_N weight: \"1 if l.label == 'easy' else 0\" } }"),
      ElementsAre(HasSubstr("weight reads \"l.label\"; known names here: confidence, member, round, text_length")));
}

}  // namespace
}  // namespace conclave::orchestrator
