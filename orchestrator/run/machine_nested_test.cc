// SPDX-License-Identifier: Apache-2.0
// Graphs that run inside a graph: what they see, what they cost, and that a record brings them back.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/hash.h"
#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A vote of three, as other graphs call it; `more` is put into it.
std::string Vote(std::string_view more = "") {
  return fmt::format(
      "called {{ name: \"vote\" input {{ name: \"question\" }} "
      "node {{ name: \"draft\" speak {{ role: \"say\" members: \"m*\" }} }} "
      "node {{ name: \"verdict\" pick {{ of: \"draft\" by: MAJORITY }} }} {} }}",
      more);
}

// A plan, a vote about it, and a last word.
std::string Around(std::string_view called, std::string_view rest = "") {
  return fmt::format(
      "name: \"g\" input {{ name: \"question\" }}\n"
      "node {{ name: \"draft\" speak {{ role: \"note\" members: \"p\" }} }}\n"
      "node {{ name: \"vote\" call {{ graph: \"vote\" argument {{ name: \"question\" value: \"{{{{ draft.text }}}} of "
      "{{{{ inputs.question }}}}\" }} {} }} }}\n"
      "node {{ name: \"last\" speak {{ role: \"say\" members: \"p\" sees {{ node: \"vote\" }} }} }}\n{}",
      called, rest);
}

const std::vector<std::string> kMembers = {"p", "m1", "m2", "m3"};

// Two say 42, one says 41; the planner says what it is asked for.
Reply Script(const CallSpec& call) {
  if (call.role == "note") return {Reply::Kind::kText, "half", 10, 0.5};
  return {Reply::Kind::kText, call.key.member() == "m1" ? "#### 41" : "#### 42", 10, 0.5};
}

std::vector<std::string> Paths(const RunLog& log) {
  std::vector<std::string> paths;
  for (const auto& event : log.events) {
    if (event.has_node_finished()) paths.push_back(event.node_path());
  }
  return paths;
}

TEST(Call, ItsValueIsTheResultOfTheGraphThatRuns) {
  const auto graph = MustCompile(Around(Vote()));
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), Script);
  EXPECT_THAT(Paths(log), ElementsAre("draft", "vote.draft", "vote.verdict", "vote", "last"))
      << "both graphs have a draft";
  EXPECT_EQ(log.node("vote").utterance_count(), 1);
  ASSERT_EQ(log.node("vote").votes_size(), 1);
  EXPECT_EQ(log.node("vote").votes(0).answer(), "42");
  const auto inside = log.calls_of("vote.draft");
  ASSERT_EQ(inside.size(), 3u);
  EXPECT_EQ(inside[0]->prompt(1).content(), "half of What is 6 times 7? r0") << "the argument, and nothing around it";
  EXPECT_THAT(log.calls_of("last")[0]->prompt(1).content(), HasSubstr("vote: [m2|#### 42]"));
}

TEST(Call, AnInputThatIsNotGivenIsTheCallersOrItsDefault) {
  const auto graph =
      MustCompile("name: \"g\" input { name: \"question\" } node { name: \"c\" call { graph: \"vote\" " +
                  Vote("input { name: \"hint\" default_value: \"none\" } node { name: \"more\" when: \"inputs.hint == "
                       "'none'\" speak "
                       "{ role: \"say\" members: \"m*\" sees { node: \"verdict\" } } } result: \"more\"") +
                  " } }");
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), Script);
  EXPECT_EQ(log.calls_of("c.draft")[0]->prompt(1).content(), "What is 6 times 7? r0");
  EXPECT_EQ(log.calls_of("c.more").size(), 3u) << "inside, `inputs` are those of the called graph";
}

TEST(Call, InALoopItsRoundsAreItsOwnAndItBeginsAnew) {
  const auto graph = MustCompile(
      "name: \"g\" input { name: \"question\" } node { name: \"l\" loop { max_rounds: 2 body { name: \"c\" call { "
      "graph: "
      "\"vote\" argument { name: \"question\" value: \"{{ inputs.question }} {{ round }}\" } " +
      Vote("budget { calls: 3 }") + " } } } }");
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), Script);
  EXPECT_EQ(log.calls_of("l[1].c.draft")[0]->prompt(1).content(), "What is 6 times 7? 1 r0");
  EXPECT_EQ(log.calls_of("l[2].c.draft")[0]->prompt(1).content(), "What is 6 times 7? 2 r0");
  EXPECT_EQ(log.finished().answer(), "42") << "a budget of three calls each time: " << log.finished().message();
  EXPECT_EQ(log.finished().ledger().calls(), 6);
}

// ---- Budgets

RunLog WithBudget(std::string_view budget, const Answerer& answer = Script) {
  const auto graph = MustCompile(Around(Vote(budget)));
  return Drive(graph, SpecFor(*graph, kMembers), answer);
}

TEST(CallBudget, AtTheLimitEverythingIsDone) {
  const RunLog log = WithBudget("budget { calls: 3 output_tokens: 150 }");
  EXPECT_EQ(log.finished().state(), deliberation::v1::RUN_STATE_SUCCEEDED);
  EXPECT_EQ(log.finished().hole_count(), 0);
  EXPECT_EQ(log.node("vote").note(), "graph vote");
}

TEST(CallBudget, OneBelowItReturnsItsBestAndTheCallerGoesOn) {
  // m1 and m2 are asked: a tie of 41 and 42, which goes to the first.
  const RunLog log = WithBudget("budget { calls: 2 on_exhausted: RETURN_BEST }");
  EXPECT_EQ(log.finished().state(), deliberation::v1::RUN_STATE_SUCCEEDED);
  EXPECT_EQ(log.node("vote.draft").hole_count(), 1);
  EXPECT_EQ(log.node("vote").votes(0).answer(), "41");
  EXPECT_THAT(log.node("vote").note(), HasSubstr("the budget ran out"));
  EXPECT_EQ(log.calls_of("last").size(), 1u) << "the caller has budget left";
  EXPECT_FALSE(log.finished().best_effort()) << "the run itself was not cut short";
  std::vector<std::string> told;
  for (const auto& event : log.events) {
    if (event.has_budget_exhausted()) told.push_back(event.node_path() + " " + event.budget_exhausted().unit());
  }
  EXPECT_THAT(told, ElementsAre("vote calls"));
}

TEST(CallBudget, OneBelowItFailsTheRunAndSaysWhich) {
  const RunLog log = WithBudget("budget { calls: 2 }");
  EXPECT_EQ(log.finished().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(log.finished().message(), HasSubstr("calls of the call \"vote\"'s budget ran out: 2 allowed, 3 needed"));
}

TEST(CallBudget, WithoutAResultTheMostFrequentAnswerOfTheLastNodeIsTaken) {
  // The second node of the called graph is its result, and is never asked.
  const auto graph = MustCompile(
      Around(Vote("node { name: \"more\" speak { role: \"say\" members: \"m*\" sees { node: \"verdict\" } } } result: "
                  "\"more\" budget { calls: 3 on_exhausted: RETURN_BEST }")));
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), Script);
  EXPECT_EQ(log.node("vote.more").hole_count(), 3);
  EXPECT_EQ(log.node("vote").utterance_count(), 1);
  EXPECT_EQ(log.node("vote").votes(0).answer(), "42");
}

TEST(CallBudget, WithoutAnyAnswerTheRunSaysThatABudgetRanOut) {
  const auto graph = MustCompile("name: \"g\" input { name: \"question\" } node { name: \"c\" call { graph: \"vote\" " +
                                 Vote("budget { calls: 0 on_exhausted: RETURN_BEST }") + " } }");
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), Script);
  EXPECT_EQ(log.finished().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
}

TEST(CallBudget, WhatIsAroundHoldsInsideToo) {
  const auto graph = MustCompile(Around(Vote("budget { calls: 9 }"), "budget { calls: 3 on_exhausted: RETURN_BEST }"));
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), Script);
  EXPECT_EQ(log.finished().ledger().calls(), 3) << "the plan, and two votes";
  EXPECT_TRUE(log.finished().best_effort());
  EXPECT_EQ(log.finished().answer(), "41");
}

TEST(CallBudget, ACallWaitsForWhatOthersGiveBack) {
  // 3 x 50 reserved do not fit into 70, but each uses 10.
  const RunLog log = WithBudget("budget { output_tokens: 70 on_exhausted: RETURN_BEST }");
  EXPECT_EQ(log.finished().hole_count(), 0);
  EXPECT_EQ(log.node("vote").votes(0).answer(), "42");
}

TEST(CallBudget, ItsWallTimeGivesUpWhatIsUnderWayInside) {
  const auto graph = MustCompile(Around(Vote("budget { wall_time { seconds: 7 } on_exhausted: RETURN_BEST }")));
  auto machine = *Machine::Create(graph, SpecFor(*graph, kMembers));
  Output out = *machine->Step(Start{});
  EXPECT_TRUE(out.timers.empty()) << "the call has not begun";
  const auto answer = [&](const CallSpec& call) {
    CallFinished finished;
    finished.call = call.id;
    finished.text = Script(call).text;
    return *machine->Step(std::move(finished));
  };
  out = answer(out.calls[0]);
  ASSERT_EQ(out.timers.size(), 1u);
  EXPECT_EQ(out.timers[0].delay_ns, 7'000'000'000);
  const std::vector<CallSpec> votes = out.calls;
  ASSERT_EQ(votes.size(), 3u);
  answer(votes[0]);
  EXPECT_EQ(machine->PendingTimers().size(), 1u);
  out = *machine->Step(TimerExpired{out.timers[0].id});
  EXPECT_THAT(out.cancel, ElementsAre(votes[1].id, votes[2].id));
  ASSERT_EQ(out.calls.size(), 1u) << "the caller goes on at once";
  EXPECT_EQ(out.calls[0].node_path, "last");
  EXPECT_TRUE(machine->PendingTimers().empty());
}

// ---- Records

// Calls in loops, branches and calls; budgets that now and then run out.
const std::string& Nested() {
  static const std::string text =
      "name: \"g\" input { name: \"question\" }\n"
      "node { name: \"draft\" speak { role: \"say\" members: \"m*\" } }\n"
      "node { name: \"more\" branch { condition: \"votes.margin < 0.9\" then { name: \"l\" loop { over: \"draft\" "
      "max_rounds: 2 body { name: \"c\" call { graph: \"outer\" argument { name: \"question\" value: \"{{ draft.answer "
      "}}: {{ inputs.question }}\" } called { name: \"outer\" input { name: \"question\" } node { name: \"draft\" call "
      "{ "
      "graph: \"vote\" " +
      Vote("budget { output_tokens: 120 on_exhausted: RETURN_BEST }") +
      " } } node { name: \"check\" judge { role: \"rule\" members: \"v*\" of: \"draft\" samples: 2 } } node { name: "
      "\"verdict\" pick { of: \"draft\" by: BEST_OF_N weight: \"1 + check.mean_score\" } } budget { calls: 9 "
      "on_exhausted: RETURN_BEST } } } } } } otherwise_value: \"draft\" } }\n"
      "node { name: \"verdict\" pick { of: \"more\" also: \"draft\" by: MAJORITY } }\n";
  return text;
}

Reply Random(const CallSpec& call) {
  const uint64_t h = Mix64(call.seed + static_cast<uint64_t>(call.key.attempt()) * 7919);
  Reply reply;
  reply.output_tokens = 1 + static_cast<int64_t>(h % static_cast<uint64_t>(call.sampling->max_output_tokens()));
  if (h % 11 == 0) reply.kind = Reply::Kind::kLose;
  if (h % 37 == 0) reply.kind = Reply::Kind::kLoseForGood;
  reply.text =
      call.role == "rule" ? (h % 3 == 0 ? "VERDICT: reject" : "VERDICT: accept") : fmt::format("#### {}", 40 + h % 3);
  return reply;
}

TEST(CallRecord, EveryPrefixCanBeResumed) {
  const auto graph = MustCompile(Nested());
  int ran_out = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const RunSpec spec = SpecFor(*graph, {"m1", "m2", "m3", "v1", "v2"}, seed);
    const RunLog whole = Drive(graph, spec, Random);
    ASSERT_TRUE(whole.machine->finished());
    for (const auto& event : whole.events) ran_out += event.has_budget_exhausted() ? 1 : 0;
    for (size_t kept = 1; kept < whole.events.size(); ++kept) {
      const std::span<const deliberation::v1::Event> prefix(whole.events.data(), kept);
      auto resumed = Replay(graph, spec, prefix, {});
      ASSERT_OK(resumed) << "seed " << seed << " kept " << kept;
      RunLog rest;
      rest.events.assign(prefix.begin(), prefix.end());
      rest.machine = std::move(resumed->machine);
      DriveOn(&rest, std::move(resumed->rest), Random, {});
      ASSERT_TRUE(rest.machine->finished());
      EXPECT_EQ(rest.finished().answer(), whole.finished().answer()) << "seed " << seed << " kept " << kept;
      EXPECT_EQ(rest.finished().ledger().calls(), whole.finished().ledger().calls());
    }
  }
  EXPECT_GT(ran_out, 5) << "budgets inside did run out now and then";
}

TEST(CallRecord, AllowancesAreNeverPassedWhateverTheOrderOfArrival) {
  const auto graph = MustCompile(Nested());
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    DriveOptions options;
    options.arrival_seed = seed;
    if (seed % 5 == 1) options.cancel_after = static_cast<int64_t>(Mix64(seed) % 30);
    const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "v1", "v2"}, seed), Random, options);
    ASSERT_TRUE(log.machine->finished()) << "seed " << seed;
    EXPECT_EQ(log.finished().ledger().calls(), log.calls) << "seed " << seed;
    for (const char* round : {"more.l[1].c", "more.l[2].c"}) {
      int64_t calls = 0, tokens = 0;
      for (const auto& event : log.events) {
        const auto add = [&](const inference::v1::Usage& usage) {
          ++calls;
          if (event.node_path() == fmt::format("{}.draft.draft", round)) tokens += usage.output_token_count();
        };
        if (!event.node_path().starts_with(round)) continue;
        if (event.has_call_finished()) add(event.call_finished().usage());
        if (event.has_call_lost()) add(event.call_lost().usage());
      }
      EXPECT_LE(calls, 9) << "seed " << seed;
      EXPECT_LE(tokens, 120) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace conclave::orchestrator
