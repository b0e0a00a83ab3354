// SPDX-License-Identifier: Apache-2.0
// Tree searches with scripted members.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/hash.h"
#include "graphs/strategies_testing.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

const std::vector<std::string> kMembers = {"solver", "verifier", "dense/a", "dense/b", "dense/c"};

// Refinements count upwards: "level 0" is refined into "level 1". The verifier believes in higher levels.
Reply Climb(const CallSpec& call) {
  const std::string& prompt = call.prompt->messages.back().content();
  const size_t at = prompt.find("level ");
  const int level = at == std::string::npos ? -1 : prompt[at + 6] - '0';
  Reply reply = Say(fmt::format("level {}\n#### {}", level + 1, level + 1));
  reply.p_true = 0.1 + 0.1 * level;
  return reply;
}

TEST(TreeSearch, TheBestAreRefinedRoundByRound) {
  // Drafts are of level 0 (probability 0.1). Three rounds refine the three best twice each: levels 1, 2, 3; the last
  // wins.
  const auto graph = Shipped("tree_search");
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), Climb);
  EXPECT_EQ(log.finished().answer(), "3");
  // 3 drafts and their scores, then three rounds of 6 refinements and their scores.
  EXPECT_EQ(log.finished().ledger().calls(), 3 * 2 + 3 * 6 * 2);
  EXPECT_EQ(log.node("tree[1].kept").utterance_count(), 9);
  EXPECT_EQ(log.node("tree[3].kept").utterance_count(), 21);
  EXPECT_THAT(PromptOf(log, "tree[2].grow", "solver"), HasSubstr("An earlier solution, which may be wrong:\nlevel 1"));
}

TEST(AbMcts, BeginsAfreshAndEndsWithTheBestScored) {
  for (const std::string name : {"ab_mcts_m", "ab_mcts_a"}) {
    const auto graph = Shipped(name);
    const RunLog log = Drive(graph, SpecFor(*graph, kMembers), Climb);
    EXPECT_EQ(log.node("tree[1].choose").note(), "of 0 answers 0 are refined, 2 asked afresh");
    EXPECT_EQ(log.finished().ledger().calls(), 8 * 2 * 2) << "every trial is one answer and one score";
    EXPECT_EQ(log.node("tree").rounds(), 8);
    double best = -1;
    std::string answer;
    for (int round = 1; round <= 8; ++round) {
      for (const auto* call : log.calls_of(fmt::format("tree[{}].grow", round))) {
        const double reward = call->answer()[0] - '0';
        if (reward > best) best = reward, answer = call->answer();
      }
    }
    EXPECT_EQ(log.finished().answer(), answer);
    EXPECT_GE(best, 2) << "it went down somewhere";
  }
}

TEST(AbMcts, MembersWithABetterRecordAreAskedMore) {
  // a's answers are worth 0.9, those of b and c 0.1. Everybody is asked once first.
  const auto graph = Shipped("ab_mcts_a");
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), [](const CallSpec& call) {
    Reply reply = Say(fmt::format("by {}\n#### 1", call.key.member()));
    reply.p_true =
        call.prompt->messages.back().content().find("Proposed solution:\nby dense/a") != std::string::npos ? 0.9 : 0.1;
    return reply;
  });
  std::vector<std::string> asked;
  for (int round = 1; round <= 8; ++round) {
    for (const auto* call : log.calls_of(fmt::format("tree[{}].grow", round))) asked.push_back(call->key().member());
  }
  ASSERT_THAT(asked, SizeIs(16));
  EXPECT_THAT(std::vector<std::string>(asked.begin(), asked.begin() + 3), ElementsAre("dense/a", "dense/b", "dense/c"));
  EXPECT_GT(std::count(asked.begin(), asked.end(), "dense/a"), 8);
}

TEST(AbMcts, OrderOfArrivalLossesAndEmptyAnswersChangeNoVerdict) {
  for (const std::string name : {"ab_mcts_m", "ab_mcts_a", "tree_search", "prove_verify"}) {
    const auto graph = Shipped(name);
    for (uint64_t seed = 1; seed <= 10; ++seed) {
      std::string first;
      for (uint64_t arrival = 0; arrival < 6; ++arrival) {
        const RunLog log = Drive(graph, SpecFor(*graph, kMembers, seed),
                                 [](const CallSpec& call) {
                                   const uint64_t h = Mix64(call.seed);
                                   if (h % 13 == 0) return Lost();
                                   Reply reply =
                                       Say(h % 11 == 0 ? "no idea"
                                                       : fmt::format("SELF-SCORE: 0.5\n#### {}\nVERDICT: {}\nSCORE: {}",
                                                                     h % 5, h % 3 == 0 ? "accept" : "reject", h % 2));
                                   reply.p_true = static_cast<double>(h % 101) / 100;
                                   return reply;
                                 },
                                 {.arrival_seed = arrival, .cancel_after = -1, .expire_after = -1});
        const std::string verdict = log.finished().ShortDebugString();
        if (arrival == 0) first = verdict;
        EXPECT_EQ(verdict, first) << name << " seed " << seed << " arrival " << arrival;
      }
    }
  }
}

TEST(AbMcts, AllLostIsAFailureThatSaysWhy) {
  const auto graph = Shipped("ab_mcts_m");
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), [](const CallSpec&) { return Lost(); });
  EXPECT_EQ(log.finished().state(), deliberation::v1::RUN_STATE_FAILED);
  EXPECT_EQ(log.finished().hole_count(), 16);
}

TEST(Assign, InTurnOverTheRounds) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "a" speak { role: "say" members: "m1" samples: 2 } }
node { name: "l" loop { over: "a" max_rounds: 3
  body { name: "b" speak { role: "say" members: "m*" each: "a" assign: TURNS } } } }
)");
  std::string asked;
  Drive(graph, SpecFor(*graph, {"m1", "m2", "m3"}), [&](const CallSpec& call) {
    if (call.node_path != "a") asked += call.key.member()[1];
    return Say("#### 1");
  });
  EXPECT_EQ(asked, "123123");
}

}  // namespace
}  // namespace conclave::orchestrator
