// SPDX-License-Identifier: Apache-2.0
// What a call is told, and what a run is asked: visibility, shared prompts, sampling, inputs out of turn.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Reply Say(std::string text) { return {Reply::Kind::kText, std::move(text), 10, 0.5}; }

std::string PromptOf(const RunLog& log, std::string_view path, std::string_view member, int sample = 0) {
  for (const auto* call : log.calls_of(path)) {
    if (call->key().member() == member && call->key().sample() == sample) {
      return call->prompt(call->prompt_size() - 1).content();
    }
  }
  ADD_FAILURE() << "no call of " << member << " at " << path;
  return "";
}

constexpr std::string_view kVote = R"(
name: "vote" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "verdict" pick { of: "draft" by: MAJORITY } }
)";

TEST(MachineCalls, ReasoningIsNotPassedOnUnlessAskedFor) {
  for (const std::string part : {"TEXT", "FULL", "ANSWER"}) {
    const auto graph = MustCompile(
        fmt::format("name: \"g\" input {{ name: \"question\" }}\n"
                    "node {{ name: \"a\" speak {{ role: \"say\" members: \"m\" }} }}\n"
                    "node {{ name: \"b\" speak {{ role: \"say\" members: \"m\" sees {{ node: \"a\" part: {} }} }} }}\n",
                    part));
    const RunLog log = Drive(graph, SpecFor(*graph, {"m"}),
                             [](const CallSpec&) { return Say("<think>secret</think>It is 4.\n#### 4"); });
    const std::string prompt = PromptOf(log, "b", "m");
    EXPECT_EQ(prompt.find("secret") != std::string::npos, part == "FULL") << prompt;
    EXPECT_EQ(prompt.find("It is 4.") != std::string::npos, part != "ANSWER") << prompt;
    EXPECT_THAT(prompt, HasSubstr("4"));
  }
}

TEST(MachineCalls, OthersAnonymousAndShuffled) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "a" speak { role: "say" members: "m*" } }
node { name: "b" speak { role: "say" members: "m*" sees { node: "a" others: true anonymous: true shuffle: true } } }
)");
  std::set<std::string> orders;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "m4"}, seed),
                             [](const CallSpec& call) { return Say("#### " + call.key.member().substr(1)); });
    const std::string prompt = PromptOf(log, "b", "m1");
    EXPECT_THAT(prompt, Not(HasSubstr("#### 1"))) << "others only";
    EXPECT_THAT(prompt, Not(HasSubstr("m2"))) << "no names";
    orders.insert(prompt);
  }
  EXPECT_EQ(orders.size(), 6u) << "every order of three turns up in 40 seeds";
}

TEST(MachineCalls, MemoryShowsEarlierRoundsTheOldestFirst) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "a" speak { role: "say" members: "m1" } }
node { name: "l" loop { over: "a" max_rounds: 4
  body { name: "b" when: "round != 2" speak { role: "note" members: "m1" sees { node: "a" memory: 3 } } }
  body { name: "c" speak { role: "say" members: "m1" sees { node: "b" memory: 3 } sees { node: "c" } } } } }
)");
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1"}), [](const CallSpec& call) {
    return Say((call.role == "note" ? "note of " : "word of ") + call.node_path + "\n#### 1");
  });
  // b did not run in round 2: of the rounds that had a value three are shown.
  const std::string prompt = PromptOf(log, "l[4].c", "m1");
  EXPECT_THAT(prompt, HasSubstr("b: [m1|note of l[1].b\n#### 1] [m1|note of l[3].b\n#### 1] [m1|note of l[4].b"));
  EXPECT_THAT(prompt, HasSubstr("c: [m1|word of l[3].c\n#### 1]")) << "itself is the round before";
  EXPECT_THAT(prompt, Not(HasSubstr("word of l[2].c")));
  // What the loop begins with is a round of it.
  EXPECT_THAT(PromptOf(log, "l[3].b", "m1"),
              HasSubstr("a: [word of a\n#### 1] [word of l[1].c\n#### 1] [word of l[2].c\n#### 1]"));
  EXPECT_THAT(PromptOf(log, "l[1].c", "m1"), Not(HasSubstr("word of")));
}

TEST(MachineCalls, MembersSeeTheSamePromptWhereTheyShareIt) {
  const auto graph = MustCompile(kVote);
  auto machine = *Machine::Create(graph, SpecFor(*graph, {"m1", "m2", "m3"}));
  const Output out = *machine->Step(Start{});
  ASSERT_EQ(out.calls.size(), 3u);
  EXPECT_EQ(out.calls[0].prompt.get(), out.calls[2].prompt.get()) << "rendered once";
  EXPECT_NE(out.calls[0].seed, out.calls[1].seed);
  EXPECT_EQ(out.calls[0].prompt->sha256.size(), 64u);
  EXPECT_EQ(out.calls[0].sampling->max_output_tokens(), 50);
}

TEST(MachineCalls, SamplingOfTheRunWinsOverNodeOverRole) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m" sampling { temperature: 0.5 top_k: 7 } } }
)");
  RunSpec spec = SpecFor(*graph, {"m"});
  spec.sampling.set_temperature(0.25);
  auto machine = *Machine::Create(graph, spec);
  const Output out = *machine->Step(Start{});
  EXPECT_EQ(out.calls[0].sampling->temperature(), 0.25f);
  EXPECT_EQ(out.calls[0].sampling->top_k(), 7);
  EXPECT_EQ(out.calls[0].sampling->max_output_tokens(), 50);
}

TEST(MachineCalls, WhatIsAskedOfARunIsChecked) {
  const auto graph = MustCompile(kVote);
  RunSpec spec = SpecFor(*graph, {"m1"});
  spec.inputs["extra"] = "x";
  EXPECT_THAT(Machine::Create(graph, spec), testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("extra")));
  spec = SpecFor(*graph, {"m1"});
  spec.inputs.clear();
  EXPECT_THAT(Machine::Create(graph, spec),
              testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("question")));
  spec = SpecFor(*graph, {"m1"});
  spec.binding.clear();
  EXPECT_THAT(Machine::Create(graph, spec), testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("m*")));
  spec = SpecFor(*graph, {"m1"});
  spec.binding["m*"] = {1};
  EXPECT_THAT(Machine::Create(graph, spec), testing::StatusIs(absl::StatusCode::kInvalidArgument));
  spec = SpecFor(*graph, {"m1"});
  spec.inputs["question"] = std::string((1 << 20) - 8, 'x');  // 8 bytes are the name
  EXPECT_OK(Machine::Create(graph, spec));
  spec.inputs["question"] += "x";
  EXPECT_THAT(Machine::Create(graph, spec), testing::StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(MachineCalls, InputsOutOfTurnChangeNothing) {
  const auto graph = MustCompile(kVote);
  auto machine = *Machine::Create(graph, SpecFor(*graph, {"m1"}));
  EXPECT_THAT(machine->Step(CancelRequested{}), testing::StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(machine->Step(Start{}));
  EXPECT_THAT(machine->Step(Start{}), testing::StatusIs(absl::StatusCode::kFailedPrecondition));
  CallFinished finished;
  finished.call = 1;
  EXPECT_THAT(machine->Step(finished), testing::StatusIs(absl::StatusCode::kFailedPrecondition));
  finished.call = 0;
  finished.text = "#### 5";
  EXPECT_OK(machine->Step(finished));
  EXPECT_TRUE(machine->finished());
  EXPECT_EQ(machine->answer(), "5");
  EXPECT_THAT(machine->Step(finished), testing::StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace conclave::orchestrator
