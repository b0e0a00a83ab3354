// SPDX-License-Identifier: Apache-2.0
// What deliberation means, rule by rule: specs/deliberation.md §4.14 (iv), (vi), (vii), (ix) and the graph language.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using deliberation::v1::RUN_STATE_FAILED;
using deliberation::v1::RUN_STATE_SUCCEEDED;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Reply Say(std::string text) { return {Reply::Kind::kText, std::move(text), 10, 0.5}; }
Reply Lose() { return {Reply::Kind::kLose, "", 3, 0}; }

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

TEST(Semantics, MajorityOfOneIsTheOne) {
  const auto graph = MustCompile(kVote);
  for (const std::string text : {"#### 7", "no idea"}) {
    const RunLog log = Drive(graph, SpecFor(*graph, {"m1"}), [&](const CallSpec&) { return Say(text); });
    EXPECT_EQ(log.finished().text(), text);
    EXPECT_EQ(log.finished().has_answer(), text != "no idea");
  }
}

TEST(Semantics, AnEmptyAnswerNeverWinsAndItsCostIsCharged) {
  const auto graph = MustCompile(kVote);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "m4"}), [](const CallSpec& call) {
    return Say(call.key.member() == "m4" ? "#### 9" : "I do not know");
  });
  EXPECT_EQ(log.finished().answer(), "9");
  EXPECT_EQ(log.finished().ledger().output_tokens(), 40);
  EXPECT_EQ(log.node("draft").votes_size(), 1);
}

TEST(Semantics, EquivalentAnswersAreOne) {
  const auto graph = MustCompile(kVote);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "m4", "m5"}), [](const CallSpec& call) {
    const std::string& m = call.key.member();
    return Say(m == "m1"   ? "#### 5"
               : m == "m2" ? "#### 5"
               : m == "m3" ? "#### 1,200"
               : m == "m4" ? "#### $1200.00"
                           : "#### 1200");
  });
  EXPECT_EQ(log.finished().answer(), "1200");
  EXPECT_EQ(log.node("verdict").votes(0).count(), 3);
}

TEST(Semantics, TiesGoToTheEarlierMemberAndAreReported) {
  const auto graph = MustCompile(kVote);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}),
                           [](const CallSpec& call) { return Say(call.key.member() == "m1" ? "#### 2" : "#### 1"); });
  EXPECT_EQ(log.finished().answer(), "2");
  EXPECT_TRUE(log.node("verdict").tie());
}

TEST(Semantics, ALaterNodeIsReadForItsRoundBeforeWhoeverIsFaster) {
  // "slow" keeps "reader" waiting; "later" has nothing to wait for, and yet must not begin before it has been read.
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "l" loop { max_rounds: 2
  body { name: "slow" speak { role: "note" members: "m1" } }
  body { name: "reader" speak { role: "say" members: "m1" sees { node: "slow" } sees { node: "later" } } }
  body { name: "later" speak { role: "note" members: "m2" } }
  body { name: "out" pick { of: "reader" also: "later" by: FIRST } } } }
)");
  for (uint64_t arrival = 0; arrival < 20; ++arrival) {
    const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}),
                             [](const CallSpec& call) { return Say("word of " + call.node_path); },
                             {.arrival_seed = arrival, .cancel_after = -1, .expire_after = -1});
    EXPECT_THAT(PromptOf(log, "l[1].reader", "m1"), Not(HasSubstr("l[1].later")));
    EXPECT_THAT(PromptOf(log, "l[2].reader", "m1"), HasSubstr("later: [m2|word of l[1].later]"));
  }
}

TEST(Semantics, AKilledWorkerLeavesAVerdictAndAHole) {
  const auto graph = MustCompile(kVote);
  int attempts = 0;
  std::set<uint64_t> seeds;
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3"}), [&](const CallSpec& call) {
    if (call.key.member() != "m2") return Say("#### 42");
    ++attempts;
    seeds.insert(call.seed);
    return Lose();
  });
  EXPECT_EQ(attempts, 1 + kRetriesMax);
  EXPECT_EQ(seeds.size(), 1u) << "a repeated call has the seed it had";
  EXPECT_EQ(log.finished().state(), RUN_STATE_SUCCEEDED);
  EXPECT_EQ(log.finished().answer(), "42");
  EXPECT_EQ(log.finished().hole_count(), 1);
  EXPECT_EQ(log.node("draft").hole_count(), 1);
  EXPECT_EQ(log.finished().ledger().calls(), 5);
  EXPECT_EQ(log.finished().ledger().discarded_tokens(), 9);
  std::vector<bool> retries;
  for (const auto& event : log.events) {
    if (event.has_call_lost()) retries.push_back(event.call_lost().will_retry());
  }
  EXPECT_THAT(retries, ElementsAre(true, true, false));
}

TEST(Semantics, EverybodyLostIsAFailureThatSaysWhy) {
  const auto graph = MustCompile(kVote);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}), [](const CallSpec&) {
    return Reply{Reply::Kind::kLoseForGood, "", 0, 0};
  });
  EXPECT_EQ(log.finished().state(), RUN_STATE_FAILED);
  EXPECT_EQ(log.finished().code(), static_cast<int>(absl::StatusCode::kUnavailable));
  EXPECT_THAT(log.finished().message(), HasSubstr("worker gone"));
}

TEST(Semantics, AQuorumGoesOnAndCancelsAndChargesTheRest) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" quorum: 2 } }
node { name: "verdict" pick { of: "draft" by: MAJORITY } }
)");
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3"}), [](const CallSpec& call) {
    return call.key.member() == "m1" ? Reply{Reply::Kind::kHang, "", 4, 0} : Say("#### 42");
  });
  EXPECT_EQ(log.finished().state(), RUN_STATE_SUCCEEDED);
  EXPECT_EQ(log.finished().answer(), "42");
  EXPECT_EQ(log.finished().hole_count(), 0) << "what is not needed is no hole";
  EXPECT_EQ(log.finished().ledger().calls(), 3);
  EXPECT_EQ(log.finished().ledger().output_tokens(), 24);
  EXPECT_EQ(log.finished().ledger().discarded_tokens(), 4);
  EXPECT_THAT(log.node("draft").note(), HasSubstr("quorum"));
}

constexpr std::string_view kJudged = R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "verify" judge { role: "check" members: "m*" of: "draft" exclude_self: true } }
node { name: "verdict" pick { of: "draft" by: BEST_OF_N weight: "verify.mean_score" } }
)";

TEST(Semantics, JudgesScoreEveryoneButThemselves) {
  const auto graph = MustCompile(kJudged);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3"}), [](const CallSpec& call) {
    if (call.role == "say") return Say(fmt::format("#### {}", call.key.member().back()));
    // Everyone finds m2's answer right and the others' wrong.
    return Say(call.prompt->messages.back().content().ends_with("#### 2") ? "VERDICT: accept" : "VERDICT: reject");
  });
  EXPECT_EQ(log.calls_of("verify").size(), 6u);
  for (const auto* call : log.calls_of("verify")) {
    EXPECT_NE(call->key().member(), fmt::format("m{}", call->key().subject() + 1));
  }
  EXPECT_EQ(log.finished().answer(), "2");
  EXPECT_DOUBLE_EQ(log.node("verify").mean_score(), 1.0 / 3);
}

TEST(Semantics, TheOnlyMemberJudgesItselfAndTheEventSaysSo) {
  const auto graph = MustCompile(kJudged);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1"}),
                           [](const CallSpec& call) { return Say(call.role == "say" ? "#### 1" : "VERDICT: accept"); });
  EXPECT_EQ(log.calls_of("verify").size(), 1u);
  EXPECT_THAT(log.node("verify").note(), HasSubstr("exclude_self"));
}

TEST(Semantics, WhatCannotWinIsNotJudged) {
  const auto graph = MustCompile(kJudged);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}), [](const CallSpec& call) {
    if (call.role == "check") return Say("VERDICT: reject");
    return Say(call.key.member() == "m1" ? "no idea" : "#### 2");
  });
  EXPECT_EQ(log.calls_of("verify").size(), 1u);
  EXPECT_EQ(log.finished().answer(), "2") << "rejected by all, and still the only answer";
}

TEST(Semantics, ProbabilitiesScore) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "verify" judge { role: "check" members: "v" of: "draft" method: P_TRUE } }
node { name: "verdict" pick { of: "draft" by: BEST_OF_N weight: "verify.mean_score" } }
)");
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "v"}), [](const CallSpec& call) {
    if (call.role == "say") {
      EXPECT_EQ(call.p_true, nullptr);
      return Say(fmt::format("#### {}", call.key.member().back()));
    }
    EXPECT_EQ(call.p_true->yes, " yes");
    return Reply{Reply::Kind::kText, "", 0, call.key.subject() == 0 ? 0.4 : 0.7};
  });
  EXPECT_EQ(log.finished().answer(), "2");
  EXPECT_DOUBLE_EQ(log.node("verify").mean_score(), 0.55);
}

constexpr std::string_view kLoop = R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "review" loop {
  over: "draft" max_rounds: 4 until: "verify.accepted >= 1"
  body { name: "critique" speak { role: "note" members: "c" sees { node: "draft" anonymous: true } sees { node: "verify" } } }
  body { name: "revise" speak { role: "say" members: "m*" sees { node: "critique" } sees { node: "draft" own: true } } }
  body { name: "verify" judge { role: "check" members: "c" of: "revise" } }
} }
)";

TEST(Semantics, ALoopCarriesItsUtterancesRoundAndEndsWhenToldTo) {
  const auto graph = MustCompile(kLoop);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "c"}), [](const CallSpec& call) {
    if (call.role == "note") return Say("weak step of " + call.node_path);
    if (call.role == "check") {
      return Say(call.node_path == "review[2].verify" && call.key.subject() == 1 ? "VERDICT: accept"
                                                                                 : "VERDICT: reject");
    }
    return Say(fmt::format("{} by {}\n#### {}", call.node_path, call.key.member(), call.key.member().back()));
  });
  EXPECT_EQ(log.node("review").rounds(), 2);
  EXPECT_THAT(log.node("review").note(), HasSubstr("until"));
  EXPECT_THAT(log.finished().text(), HasSubstr("review[2].revise by m1"));
  // Round one criticises the draft, round two what round one made of it, and knows the verdicts of round one.
  const std::string first = PromptOf(log, "review[1].critique", "c");
  EXPECT_THAT(first, HasSubstr("[draft by m1"));
  EXPECT_THAT(first, Not(HasSubstr("VERDICT")));
  const std::string second = PromptOf(log, "review[2].critique", "c");
  EXPECT_THAT(second, HasSubstr("[review[1].revise by m2"));
  EXPECT_THAT(second, HasSubstr("[VERDICT: reject] [VERDICT: reject]"));
  // One's own words only.
  EXPECT_THAT(PromptOf(log, "review[2].revise", "m1"), HasSubstr("[m1|review[1].revise by m1"));
  EXPECT_THAT(PromptOf(log, "review[2].revise", "m1"), Not(HasSubstr("by m2")));
  EXPECT_THAT(PromptOf(log, "review[2].revise", "m1"), HasSubstr("r2"));
}

TEST(Semantics, ALoopStopsAtItsBound) {
  const auto graph = MustCompile(kLoop);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "c"}), [](const CallSpec& call) {
    return Say(call.role == "check" ? "VERDICT: reject" : "#### 1");
  });
  EXPECT_EQ(log.node("review").rounds(), 4);
  EXPECT_EQ(log.node("review").note(), "max_rounds: 4");
}

TEST(Semantics, ARoundThatYieldsNothingChangesNothing) {
  const auto graph = MustCompile(kLoop);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "c"}), [](const CallSpec& call) {
    if (call.node_path.ends_with("revise")) return Reply{Reply::Kind::kLoseForGood, "", 0, 0};
    return Say("the first draft\n#### 1");
  });
  EXPECT_EQ(log.finished().state(), RUN_STATE_SUCCEEDED);
  EXPECT_EQ(log.finished().answer(), "1");
}

TEST(Semantics, BranchesTakeOneArm) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "way" branch {
  condition: "votes.margin >= 1"
  then { name: "sure" pick { of: "draft" by: FIRST } }
  otherwise { name: "again" speak { role: "say" members: "m1" sees { node: "draft" } } }
} }
)");
  for (const bool agree : {true, false}) {
    const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}), [&](const CallSpec& call) {
      return Say(call.node_path == "way.again" ? "#### 3" : call.key.member() == "m1" || agree ? "#### 1" : "#### 2");
    });
    EXPECT_EQ(log.finished().answer(), agree ? "1" : "3");
    EXPECT_EQ(log.node("way").note(), agree ? "then" : "otherwise");
  }
}

TEST(Semantics, WhenSkipsANode) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" } input { name: "hard" default_value: "no" }
node { name: "draft" speak { role: "say" members: "m" } }
node { name: "more" when: "inputs.hard == 'yes'" speak { role: "say" members: "m" } }
node { name: "b" speak { role: "say" members: "m" sees { node: "draft" } sees { node: "more" } } }
)");
  for (const bool hard : {false, true}) {
    RunSpec spec = SpecFor(*graph, {"m"});
    if (hard) spec.inputs["hard"] = "yes";
    const RunLog log = Drive(graph, spec, [](const CallSpec&) { return Say("#### 1"); });
    EXPECT_EQ(log.finished().ledger().calls(), hard ? 3 : 2);
    EXPECT_EQ(log.node("more").utterance_count(), hard ? 1 : 0);
  }
}

TEST(Semantics, ChecksDecideWeights) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "sums" check { of: "draft" checker: ARITHMETIC } }
node { name: "verdict" pick { of: "draft" by: WEIGHTED_VOTE weight: "sums.passed" } }
)");
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3"}), [](const CallSpec& call) {
    return Say(call.key.member() == "m3" ? "6 * 7 = 42\n#### 42" : "6 * 7 = 48\n#### 48");
  });
  EXPECT_EQ(log.finished().answer(), "42");
  EXPECT_EQ(log.node("sums").note(), "1 of 3 passed");
}

TEST(Semantics, WeightsOfMembers) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "verdict" pick { of: "draft" by: WEIGHTED_VOTE } }
)");
  RunSpec spec = SpecFor(*graph, {"m1", "m2", "m3"});
  spec.members[0].weight = 2.5;
  const RunLog log =
      Drive(graph, spec, [](const CallSpec& call) { return Say(call.key.member() == "m1" ? "#### 1" : "#### 2"); });
  EXPECT_EQ(log.finished().answer(), "1");
  EXPECT_DOUBLE_EQ(log.node("verdict").votes(1).weight(), 2.5);
}

}  // namespace
}  // namespace conclave::orchestrator
