// SPDX-License-Identifier: Apache-2.0
// Debate, mixture of agents and ReConcile with scripted members; every outcome is worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graphs/strategies_testing.h"

namespace conclave::orchestrator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<std::string> kThree = {"dense/a", "dense/b", "dense/c"};
const std::vector<std::string> kFive = {"dense/a", "dense/b", "dense/c", "dense/d", "dense/e"};

TEST(Debate, TheDraftsVoteIsInTheRecordAndFlipsAreVisible) {
  // Drafts 4, 5, 5. Round 1: a 5, b 4, c 4: a goes 4 -> 5, b and c go 5 -> 4. Majority of the drafts 5, of round 1 4.
  // Round 2: 4, 4, 4.
  const RunLog log = Play("debate", kThree,
                          {{"draft dense/a", "#### 4"},
                           {"draft dense/b", "#### 5"},
                           {"draft dense/c", "#### 5"},
                           {"debate[1].revise dense/a", "#### 5"},
                           {"debate[1].revise dense/b", "#### 4"},
                           {"debate[1].revise dense/c", "#### 4"},
                           {"debate[2].revise dense/a", "#### 4"},
                           {"debate[2].revise dense/b", "#### 4"},
                           {"debate[2].revise dense/c", "#### 4"}});
  EXPECT_EQ(log.node("draft").votes(0).answer(), "5");
  EXPECT_EQ(log.node("draft").votes(0).count(), 2);
  EXPECT_EQ(log.node("debate[1].revise").votes(0).answer(), "4");
  EXPECT_EQ(log.finished().answer(), "4");
  EXPECT_EQ(log.node("debate").rounds(), 2);
  EXPECT_EQ(log.calls_of("draft")[1]->answer(), "5");
  EXPECT_EQ(log.calls_of("debate[1].revise")[1]->answer(), "4") << "b went from 5 to 4";
}

TEST(Debate, UnanimousDraftsStillReadOneRoundAndThenStop) {
  const RunLog log = Play("debate", kThree,
                          {{"draft dense/a", "#### 4"},
                           {"draft dense/b", "#### 4"},
                           {"draft dense/c", "#### 4"},
                           {"debate[1].revise dense/a", "#### 4"},
                           {"debate[1].revise dense/b", "#### 4"},
                           {"debate[1].revise dense/c", "#### 4"}});
  EXPECT_EQ(log.node("debate").rounds(), 1);
  EXPECT_THAT(log.node("debate").note(), HasSubstr("until"));
}

TEST(Debate, ReadersSeeTheOthersAnonymouslyAndTheirOwnApart) {
  Script script;
  for (const std::string& member : kThree) {
    script["draft " + member] = "I am " + member + "\n#### " + (member == "dense/a" ? "1" : "2");
    script["debate[1].revise " + member] = script["debate[2].revise " + member] = "#### 2";
  }
  const RunLog log = Play("debate", kThree, script);
  const std::string prompt = PromptOf(log, "debate[1].revise", "dense/a");
  EXPECT_THAT(prompt, HasSubstr("Your last answer:\n<<<\nI am dense/a\n#### 1"));
  EXPECT_THAT(prompt, HasSubstr("Answer of another solver:\n<<<\nI am dense/b"));
  EXPECT_THAT(prompt, Not(HasSubstr("Answer of dense/b")));
  const RunLog named = Play("debate_named", kThree, script);
  EXPECT_THAT(PromptOf(named, "debate[1].revise", "dense/a"), HasSubstr("Answer of dense/b:\n<<<\nI am dense/b"));
}

// Whose words a reader is shown in round 1, in a debate of five.
std::string Shown(const std::string& graph, const std::string& reader) {
  Script script;
  for (const std::string& member : kFive) {
    script["draft " + member] = "I am " + member + "\n#### " + std::to_string(member.back());
    script["debate[1].revise " + member] = script["debate[2].revise " + member] = "#### 1";
  }
  const RunLog log = Play(graph, kFive, script);
  const std::string prompt = PromptOf(log, "debate[1].revise", reader);
  std::string shown;
  for (const std::string& member : kFive) {
    if (prompt.find("I am " + member) != std::string::npos) shown += member.back();
  }
  return shown;
}

TEST(Debate, Topologies) {
  EXPECT_EQ(Shown("debate", "dense/c"), "abcde");
  EXPECT_EQ(Shown("debate_ring", "dense/a"), "abe") << "the circle is closed";
  EXPECT_EQ(Shown("debate_ring", "dense/c"), "bcd");
  EXPECT_EQ(Shown("debate_star", "dense/a"), "abcde");
  EXPECT_EQ(Shown("debate_star", "dense/d"), "ad");
}

TEST(Debate, SamplesOfOneMemberAreSeveralDebaters) {
  const RunLog log = Play("self_debate", {"solver"},
                          {{"draft solver 0", "I am zero\n#### 1"},
                           {"draft solver 1", "I am one\n#### 2"},
                           {"draft solver 2", "I am two\n#### 3"},
                           {"debate[1].revise solver", "#### 3"}});
  const std::string prompt = PromptOf(log, "debate[1].revise", "solver", 1);
  EXPECT_THAT(prompt, HasSubstr("Your last answer:\n<<<\nI am one"));
  EXPECT_THAT(prompt, AllOf(HasSubstr("Answer of another solver:\n<<<\nI am zero"), HasSubstr("<<<\nI am two")));
  EXPECT_THAT(prompt, Not(HasSubstr("Answer of another solver:\n<<<\nI am one")));
  EXPECT_EQ(log.finished().answer(), "3");
}

TEST(Debate, ALostDebaterLeavesAHoleAndAnEmptyAnswerNoVote) {
  // Round 1: a 7, b lost, c without an answer: 7 has one of two utterances, top is 1/2. Round 2: all lost: the round
  // produced nothing and changes nothing, so a's 7 decides.
  const RunLog log = Play("debate", kThree,
                          {{"draft dense/a", "#### 6"},
                           {"draft dense/b", "#### 6"},
                           {"draft dense/c", "#### 8"},
                           {"debate[1].revise dense/a", "#### 7"},
                           {"debate[1].revise dense/b", "lost"},
                           {"debate[1].revise dense/c", "I cannot say."},
                           {"debate[2].revise dense/a", "lost"},
                           {"debate[2].revise dense/b", "lost"},
                           {"debate[2].revise dense/c", "lost"}});
  EXPECT_EQ(log.finished().answer(), "7");
  EXPECT_EQ(log.finished().hole_count(), 4);
  EXPECT_EQ(log.node("debate").rounds(), 2);
}

constexpr std::string_view kPatient = R"(
name: "patient" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "debate" loop { over: "draft" max_rounds: 9 until: "votes.unchanged >= 2"
  body { name: "revise" speak { role: "say" members: "m*" sees { node: "draft" } } } } }
)";

TEST(Debate, StopsWhenTheMajorityHasStoodForTwoRounds) {
  // Majorities by round, from the drafts on: 1, 2, 2, 3, 3, 3. Unchanged: -, 0, 1, 0, 1, 2.
  const std::vector<std::string> tops = {"1", "2", "2", "3", "3", "3"};
  const auto graph = MustCompile(kPatient);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3"}), [&](const CallSpec& call) {
    const size_t round = call.node_path == "draft" ? 0 : static_cast<size_t>(call.node_path[7] - '0');
    return Say("#### " + (call.key.member() == "m3" ? "99" : tops[round]));
  });
  EXPECT_EQ(log.node("debate").rounds(), 5);
}

TEST(Debate, RoundsWithoutAnyAnswerDoNotCountAsUnchanged) {
  const auto graph = MustCompile(kPatient);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}), [&](const CallSpec&) { return Say("I cannot say."); });
  EXPECT_EQ(log.node("debate").rounds(), 9);
  EXPECT_FALSE(log.finished().has_answer());
}

TEST(Debate, ABudgetThatEndsInARoundLeavesWhatWasSaid) {
  const auto graph = Shipped("debate");
  RunSpec spec = SpecFor(*graph, kThree);
  deliberation::v1::Budget budget;
  budget.set_calls(4);
  budget.set_on_exhausted(deliberation::v1::Budget::RETURN_BEST);
  spec.budgets.push_back({"request", budget});
  const RunLog log = Drive(graph, spec, [&](const CallSpec& call) {
    if (call.node_path == "draft") return Say(call.key.member() == "dense/a" ? "#### 1" : "#### 2");
    return Say("#### 1");
  });
  // Only a revised, to 1; b and c are holes of the round. The round's value is a's 1 alone.
  EXPECT_TRUE(log.finished().best_effort());
  EXPECT_EQ(log.finished().answer(), "1");
  EXPECT_EQ(log.finished().ledger().calls(), 4);
  EXPECT_EQ(log.node("debate[1].revise").hole_count(), 2);
}

TEST(Mixture, EveryLayerReadsTheWholeLayerBefore) {
  // n = 3 members, 3 layers: 3 x 2 + 1 calls.
  const RunLog log = Play("mixture_of_agents", {"dense/a", "dense/b", "dense/c", "solver"},
                          {{"first dense/a", "A says\n#### 1"},
                           {"first dense/b", "lost"},
                           {"first dense/c", "C says\n#### 3"},
                           {"second dense/a", "A2 says\n#### 3"},
                           {"second dense/b", "B2 says\n#### 3"},
                           {"second dense/c", "C2 says\n#### 1"},
                           {"last solver", "#### 3"}});
  EXPECT_EQ(log.finished().ledger().calls(), 7);
  EXPECT_EQ(log.finished().answer(), "3");
  EXPECT_EQ(log.finished().hole_count(), 1) << "a failed reference is recorded, not dropped silently";
  const std::string prompt = PromptOf(log, "second", "dense/b");
  EXPECT_THAT(prompt,
              AllOf(HasSubstr("A says"), HasSubstr("C says"), HasSubstr("Answer 2:"), Not(HasSubstr("Answer 3"))));
  EXPECT_THAT(PromptOf(log, "last", "solver"), AllOf(HasSubstr("A2 says"), HasSubstr("B2 says"), HasSubstr("C2 says")));
}

TEST(Mixture, WithoutTheAggregatorTheLayerBeforeAnswers) {
  const RunLog log = Play(
      "self_moa", {"solver"},
      {{"draft solver 0", "no"}, {"draft solver", "#### 5"}, {"draft solver 3", "#### 6"}, {"last solver", "lost"}});
  EXPECT_EQ(log.finished().ledger().calls(), 7);
  EXPECT_EQ(log.finished().answer(), "5") << "the first of the drafts that has an answer";
}

TEST(Mixture, InSequenceTheWindowSlides) {
  Script script;
  for (int round = 1; round <= 3; ++round) {
    for (int sample = 0; sample < 3; ++sample) {
      script[fmt::format("synthesis[{}].more solver {}", round, sample)] =
          fmt::format("new {}{}\n#### {}", round, sample, round);
    }
    script[fmt::format("synthesis[{}].fold solver", round)] = fmt::format("folded {}\n#### {}", round, 10 + round);
  }
  const RunLog log = Play("self_moa_sequential", {"solver"}, script);
  EXPECT_EQ(log.finished().answer(), "13");
  EXPECT_EQ(log.finished().ledger().calls(), 12);
  const std::string prompt = PromptOf(log, "synthesis[3].fold", "solver");
  EXPECT_THAT(prompt, AllOf(HasSubstr("folded 2"), HasSubstr("new 30"), HasSubstr("new 32")));
  EXPECT_THAT(prompt, Not(AnyOf(HasSubstr("folded 1"), HasSubstr("new 2")))) << "the window forgets";
}

TEST(Reconcile, ConfidenceWeighsInTheStepsOfThePaper) {
  // Drafts: a 1 (confidence 1.0), b 2 (.65), c 2 (.5): disagreement. Round 1, the same: a has 1.0, b and c .3 + .1.
  // Round 2 again. 1.0 > 0.4: the minority that is certain wins.
  Script script;
  for (const std::string at : {"draft", "table[1].again", "table[2].again"}) {
    script[at + " dense/a"] = "Sure.\nCONFIDENCE: 1.0\n#### 1";
    script[at + " dense/b"] = "Hm.\nCONFIDENCE: 0.65\n#### 2";
    script[at + " dense/c"] = "Well.\nCONFIDENCE: 0.5\n#### 2";
  }
  const RunLog log = Play("reconcile", kThree, script);
  EXPECT_EQ(log.finished().answer(), "1");
  EXPECT_EQ(log.node("table").rounds(), 2);
  const auto& votes = log.node("verdict").votes();
  EXPECT_EQ(votes.Get(0).answer(), "2");
  EXPECT_DOUBLE_EQ(votes.Get(0).weight(), 0.4);
  EXPECT_DOUBLE_EQ(votes.Get(1).weight(), 1.0);
  EXPECT_EQ(log.calls_of("draft")[1]->confidence(), 0.65);
  const std::string prompt = PromptOf(log, "table[1].again", "dense/a");
  EXPECT_THAT(prompt, AllOf(HasSubstr("2 at the table think the answer is 2:"), HasSubstr("(confidence 0.65)"),
                            HasSubstr("1 at the table thinks the answer is 1:"), Not(HasSubstr("dense/"))));
}

TEST(Reconcile, StepsAtTheirEdges) {
  // f(1) = 1, f(.9) = .8, f(.8) = .5, f(.61) = .3, f(.6) = .1, nothing stated: .1.
  const std::vector<std::pair<std::string, double>> steps = {{"1", 1.0},    {"0.99", 0.8}, {"0.9", 0.8}, {"0.8", 0.5},
                                                             {"0.61", 0.3}, {"0.6", 0.1},  {"0", 0.1},   {"", 0.1}};
  for (const auto& [stated, weight] : steps) {
    const std::string text = (stated.empty() ? "" : "CONFIDENCE: " + stated + "\n") + "#### 1";
    const RunLog log = Play("reconcile", {"dense/a"}, {{"draft dense/a", text}, {"table[1].again dense/a", text}});
    EXPECT_DOUBLE_EQ(log.node("verdict").votes(0).weight(), weight) << stated;
  }
}

TEST(Reconcile, WhatCannotBeReadIsNoVote) {
  // The published code draws a random answer for it and gives it 0.1.
  Script script;
  for (const std::string at : {"draft", "table[1].again", "table[2].again"}) {
    script[at + " dense/a"] = "{broken json";
    script[at + " dense/b"] = "CONFIDENCE: 2.5\n#### 9";
    script[at + " dense/c"] = "lost";
  }
  const RunLog log = Play("reconcile", kThree, script);
  EXPECT_EQ(log.finished().answer(), "9");
  EXPECT_EQ(log.node("verdict").votes_size(), 1);
  EXPECT_DOUBLE_EQ(log.node("verdict").votes(0).weight(), 0.1) << "a confidence above 1 is none";
}

TEST(Strategies, OrderOfArrivalChangesNothing) {
  Script script;
  for (const std::string& member : kFive) {
    const std::string last(1, member.back());
    script["draft " + member] =
        "CONFIDENCE: 0." + std::to_string(1 + member.back() % 9) + "\n#### " + std::to_string(member.back() % 3);
    for (const std::string at : {"debate[1].revise ", "debate[2].revise ", "table[1].again ", "table[2].again "}) {
      script[at + member] = "CONFIDENCE: 0.7\n#### " + std::to_string((member.back() + at[1]) % 3);
    }
  }
  for (const std::string graph : {"debate", "debate_ring", "debate_star", "reconcile"}) {
    const std::string first = Play(graph, kFive, script).finished().ShortDebugString();
    for (uint64_t arrival = 1; arrival <= 20; ++arrival) {
      EXPECT_EQ(Play(graph, kFive, script, arrival).finished().ShortDebugString(), first) << graph << arrival;
    }
  }
}

}  // namespace
}  // namespace conclave::orchestrator
