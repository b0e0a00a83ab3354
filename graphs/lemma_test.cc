// SPDX-License-Identifier: Apache-2.0
// Plans as graphs of lemmas, with scripted members.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "graphs/strategies_testing.h"

namespace conclave::orchestrator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

const std::vector<std::string> kMembers = {"planner", "solver", "verifier", "dense/a", "dense/b"};

// What a call works on: the text behind "Your step: " or "The step: ".
std::string StepOf(const CallSpec& call) {
  const std::string& prompt = call.prompt->messages.back().content();
  const size_t at = prompt.find("step: ");
  if (at == std::string::npos) return "";
  return prompt.substr(at + 6, prompt.find('\n', at) - at - 6);
}

// Which steps were tried in a round, in order, each once.
std::vector<std::string> Tried(const RunLog& log, int round) {
  std::vector<std::string> steps;
  for (const auto* call : log.calls_of(fmt::format("work[{}].prove", round))) {
    const std::string& prompt = call->prompt(call->prompt_size() - 1).content();
    const size_t at = prompt.find("Your step: ") + 11;
    const std::string step = prompt.substr(at, prompt.find('\n', at) - at);
    if (std::find(steps.begin(), steps.end(), step) == steps.end()) steps.push_back(step);
  }
  return steps;
}

TEST(LemmaPlan, StepsAreProvedWhenWhatTheyNeedIs) {
  // a and b at once, then c, which needs both; then the solution.
  const auto graph = Shipped("lemma_plan");
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), [](const CallSpec& call) {
    if (call.role == "lemma_planner") return Say("Here:\n[a] first\n[b] second\n[c: needs a, b] third");
    if (call.role == "lemma_prover") return Say("done " + StepOf(call));
    if (call.role == "lemma_checker") return Say("VERDICT: accept");
    EXPECT_EQ(call.role, "aggregator");
    EXPECT_THAT(call.prompt->messages.back().content(),
                AllOf(HasSubstr("done first"), HasSubstr("done second"), HasSubstr("done third")));
    return Say("#### 6");
  });
  EXPECT_EQ(log.finished().answer(), "6");
  EXPECT_THAT(Tried(log, 1), ElementsAre("first", "second"));
  EXPECT_THAT(Tried(log, 2), ElementsAre("third"));
  EXPECT_THAT(PromptOf(log, "work[2].prove", "solver"), HasSubstr("Already shown: first\nAlready shown: second\n"));
  EXPECT_EQ(log.node("work").rounds(), 2);
  EXPECT_EQ(log.calls_of("plan")[0]->items_size(), 3);
  // 1 plan, 3 steps x 2 tries x (1 + 3 judgements), 1 last.
  EXPECT_EQ(log.finished().ledger().calls(), 1 + 3 * 2 * 4 + 1);
}

TEST(LemmaPlan, AFailedStepIsTriedAgainWithTheReportAndThenPlannedAnewAlone) {
  // b fails in rounds 1 and 2 (4 tries), is planned anew as b1, b2; these are proved in rounds 3 and 4; c, which needs
  // b, in round 5. a is never done twice.
  const auto graph = Shipped("lemma_plan");
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), [](const CallSpec& call) {
    const std::string& prompt = call.prompt->messages.back().content();
    if (call.role == "lemma_planner") {
      if (prompt.find("could not be done") == std::string::npos)
        return Say("[a] first\n[b] second\n[c: needs b] third");
      EXPECT_THAT(prompt, AllOf(HasSubstr("This step could not be done:\nsecond"), HasSubstr("the report")));
      return Say("[b1] half\n[b2: needs b1] second again");
    }
    if (call.role == "lemma_prover") {
      if (call.node_path == "work[2].prove") {
        EXPECT_THAT(prompt, HasSubstr("the report")) << "with what was said of the first tries";
      }
      return Say("try of " + StepOf(call));
    }
    if (call.role == "lemma_checker") {
      return Say(StepOf(call) == "second" ? "the report\nVERDICT: reject" : "VERDICT: accept");
    }
    return Say("#### 7");
  });
  EXPECT_THAT(Tried(log, 1), ElementsAre("first", "second"));
  EXPECT_THAT(Tried(log, 2), ElementsAre("second"));
  EXPECT_THAT(Tried(log, 3), ElementsAre("half"));
  EXPECT_THAT(Tried(log, 4), ElementsAre("second again"));
  EXPECT_THAT(Tried(log, 5), ElementsAre("third"));
  EXPECT_EQ(log.finished().answer(), "7");
  EXPECT_EQ(log.node("work").rounds(), 5);
  EXPECT_THAT(log.calls_of("work[2].replan"), SizeIs(1));
}

TEST(LemmaPlan, WithoutAPlanOrWithAnOpenStepMembersAnswerDirectly) {
  for (const std::string plan :
       {"I have no plan.", "[a: needs b] wrong\n[b] order", "[a] one\n[a] twice", "[a] hopeless"}) {
    const auto graph = Shipped("lemma_plan");
    const RunLog log = Drive(graph, SpecFor(*graph, kMembers), [&](const CallSpec& call) {
      if (call.role == "lemma_planner") return call.node_path == "plan" ? Say(plan) : Lost();
      if (call.role == "lemma_prover") return Say("try");
      if (call.role == "lemma_checker") return Say(call.key.sample() == 0 ? "VERDICT: accept" : "VERDICT: reject");
      EXPECT_EQ(call.node_path, "answer.direct");
      return Say("#### 8");
    });
    EXPECT_EQ(log.finished().answer(), "8") << plan;
    EXPECT_EQ(log.node("work").rounds(), plan == "[a] hopeless" ? 6 : 1) << plan;
  }
}

TEST(LemmaPlan, OrderOfArrivalLossesAndReplayChangeNothing) {
  const auto graph = Shipped("lemma_plan");
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::string first;
    for (uint64_t arrival = 0; arrival < 5; ++arrival) {
      const RunSpec spec = SpecFor(*graph, kMembers, seed);
      const RunLog log = Drive(graph, spec,
                               [](const CallSpec& call) {
                                 const uint64_t h = call.seed % 97;
                                 if (h % 13 == 0) return Lost();
                                 if (call.role == "lemma_planner")
                                   return Say(h % 7 == 0 ? "none" : "[a] x\n[b] y\n[c: needs a] z\n[d: needs b, c] w");
                                 if (call.role == "lemma_checker")
                                   return Say(h % 3 == 0 ? "VERDICT: accept" : h % 3 == 1 ? "VERDICT: reject" : "hm");
                                 return Say(fmt::format("#### {}", h % 4));
                               },
                               {.arrival_seed = arrival, .cancel_after = -1, .expire_after = -1});
      const std::string verdict = log.finished().ShortDebugString();
      if (arrival == 0) first = verdict;
      EXPECT_EQ(verdict, first) << "seed " << seed << " arrival " << arrival;
      const auto again = Replay(graph, spec, log.events, {});
      ASSERT_TRUE(again.ok()) << again.status().ToString();
      EXPECT_TRUE(again->machine->finished());
    }
  }
}

}  // namespace
}  // namespace conclave::orchestrator
