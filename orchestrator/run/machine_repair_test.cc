// SPDX-License-Identifier: Apache-2.0
// Outputs of which nothing could be read: asked for once more, with what was wrong, and then empty.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orchestrator/graph/cost_bound.h"
#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

Reply Say(std::string text) { return {Reply::Kind::kText, std::move(text), 10, 0.5}; }

constexpr std::string_view kAnswers = R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "mend" members: "m*" } }
node { name: "verdict" pick { of: "draft" by: MAJORITY } }
)";

TEST(MachineRepair, AWriterIsAskedOnceMoreWithWhatItWrote) {
  const auto graph = MustCompile(kAnswers);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}), [](const CallSpec& call) {
    if (call.key.member() == "m2") return Say("#### 41");
    return Say(call.key.attempt() == 0 ? "<think>hm</think>Nobody knows." : "#### 42");
  });
  const auto calls = log.calls_of("draft");
  ASSERT_EQ(calls.size(), 3u);
  EXPECT_EQ(calls[0]->key().member(), "m1");
  EXPECT_TRUE(calls[0]->will_repair());
  EXPECT_FALSE(calls[0]->has_answer());
  EXPECT_FALSE(calls[1]->will_repair());
  const deliberation::v1::CallFinished& again = *calls[2];
  EXPECT_EQ(again.key().member(), "m1");
  EXPECT_EQ(again.key().attempt(), 1);
  EXPECT_EQ(again.answer(), "42");
  EXPECT_EQ(again.seed(), calls[0]->seed());
  // The prompt, what it wrote without its reasoning, and what it is told.
  ASSERT_EQ(again.prompt_size(), calls[0]->prompt_size() + 2);
  EXPECT_EQ(again.prompt(again.prompt_size() - 2).role(), "assistant");
  EXPECT_EQ(again.prompt(again.prompt_size() - 2).content(), "Nobody knows.");
  EXPECT_EQ(again.prompt(again.prompt_size() - 1).role(), "user");
  EXPECT_EQ(again.prompt(again.prompt_size() - 1).content(), "Which number?");
  EXPECT_NE(again.prompt_sha256(), calls[0]->prompt_sha256());
  EXPECT_EQ(log.finished().ledger().calls(), 3);
  EXPECT_EQ(log.finished().ledger().output_tokens(), 30);
  EXPECT_EQ(log.node("draft").utterance_count(), 2);
  EXPECT_EQ(log.finished().answer(), "42") << "a tie goes to the earlier member";
}

TEST(MachineRepair, AfterOneMoreItIsEmpty) {
  const auto graph = MustCompile(kAnswers);
  const RunLog log =
      Drive(graph, SpecFor(*graph, {"m1"}), [](const CallSpec&) { return Say("I would rather not say."); });
  EXPECT_EQ(log.calls_of("draft").size(), 2u);
  EXPECT_EQ(log.finished().state(), deliberation::v1::RUN_STATE_SUCCEEDED);
  EXPECT_FALSE(log.finished().has_answer());
}

// A loss on the way changes nothing: the repair is tried again, and counted as one.
TEST(MachineRepair, ALostRepairIsTriedAgain) {
  const auto graph = MustCompile(kAnswers);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1"}), [](const CallSpec& call) {
    if (call.key.attempt() == 1) return Reply{.kind = Reply::Kind::kLose, .text = ""};
    return Say("neither");
  });
  const auto calls = log.calls_of("draft");
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[1]->key().attempt(), 2);
  EXPECT_FALSE(calls[1]->will_repair());
  EXPECT_EQ(calls[1]->prompt(calls[1]->prompt_size() - 1).content(), "Which number?");
}

// A verdict that can be read after all counts; the constraint goes with both calls, and with no other role's.
TEST(MachineRepair, JudgesAreAskedOnceMore) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m1" } }
node { name: "ruling" judge { role: "rule" members: "j" of: "draft" } }
node { name: "verdict" pick { of: "draft" by: WEIGHTED_VOTE weight: "ruling.mean_score" } }
)");
  int constrained = 0;
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "j"}), [&](const CallSpec& call) {
    EXPECT_EQ(call.constraint != nullptr, call.role == "rule");
    if (call.role == "say") return Say("#### 42");
    EXPECT_EQ(call.constraint->regex(), "VERDICT: (accept|reject)");
    ++constrained;
    return Say(call.key.attempt() == 0 ? "Perhaps." : "VERDICT: accept");
  });
  EXPECT_EQ(constrained, 2);
  EXPECT_EQ(log.node("ruling").mean_score(), 1);
  EXPECT_EQ(log.finished().answer(), "42");
}

// A budget that ends before the repair: the slot is a hole, as if the call had been refused.
TEST(MachineRepair, ABudgetMayEndInBetween) {
  const auto graph = MustCompile(fmt::format("{}budget {{ calls: 2 on_exhausted: RETURN_BEST }}", kAnswers));
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}), [](const CallSpec& call) {
    return Say(call.key.member() == "m1" ? "who knows" : "#### 7");
  });
  EXPECT_EQ(log.finished().ledger().calls(), 2);
  EXPECT_EQ(log.finished().hole_count(), 1);
  EXPECT_EQ(log.finished().answer(), "7");
  EXPECT_TRUE(log.finished().best_effort());
}

// A straggler's second call says nothing that can be read: the first, which has its seed, is not waited for.
TEST(MachineRepair, ASecondCallMayHaveToBeRepaired) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "mend" members: "m*" hedge { when_done: 1 } } }
node { name: "verdict" pick { of: "draft" by: MAJORITY } }
)");
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}), [](const CallSpec& call) {
    if (call.key.member() == "m1") return Say("#### 42");
    if (call.key.attempt() == 0) return Reply{.kind = Reply::Kind::kHang, .text = ""};
    return Say(call.key.attempt() == 1 ? "Let me think." : "#### 42");
  });
  EXPECT_EQ(log.finished().answer(), "42");
  EXPECT_EQ(log.node("draft").utterance_count(), 2);
  const auto calls = log.calls_of("draft");
  ASSERT_EQ(calls.size(), 3u);
  EXPECT_EQ(calls.back()->key().attempt(), 2);
  EXPECT_EQ(calls.back()->answer(), "42");
  EXPECT_EQ(log.finished().hole_count(), 0);
}

TEST(MachineRepair, TheBoundCountsIt) {
  const auto graph = MustCompile(kAnswers);
  RunSpec spec = SpecFor(*graph, {"m1", "m2"});
  CostInputs inputs;
  inputs.binding = spec.binding;
  for (const RunMember& member : spec.members) inputs.members.push_back(member.cost);
  inputs.input_bytes = static_cast<int64_t>(spec.inputs["question"].size());
  const auto bound = BoundCost(*graph, inputs);
  ASSERT_OK(bound);
  EXPECT_EQ(bound->calls(), 4);
  EXPECT_EQ(bound->output_tokens(), 4 * 50);
}

}  // namespace
}  // namespace conclave::orchestrator
