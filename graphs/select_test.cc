// SPDX-License-Identifier: Apache-2.0
// GenSelect, knock-out, ranked council and pairwise comparison with scripted members; outcomes are worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "graphs/strategies_testing.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

// The number under which the selector's prompt shows a text; 0: it does not.
int NumberOf(const CallSpec& call, const std::string& text) {
  const std::string& prompt = call.prompt->messages.back().content();
  for (int number = 1; number <= 64; ++number) {
    if (prompt.find(fmt::format("Solution {}:\n{}\n", number, text)) != std::string::npos) return number;
  }
  return 0;
}

std::string Draft(int sample, int answer) { return fmt::format("draft {}\n#### {}", sample, answer); }

TEST(GenSelect, TheAnswerNamedMostOftenWins) {
  // Eight drafts: 0 says 1; 1 and 2 say 2; all others say 3. Four choices: draft 0, draft 1, draft 2, unreadable.
  // Majority of the answers selected: 2 twice, 1 once. Plain majority would be 3.
  const std::vector<int> answers = {1, 2, 2, 3, 3, 3, 3, 3};
  const auto graph = Shipped("genselect");
  const RunLog log = Drive(graph, SpecFor(*graph, {"solver"}), [&](const CallSpec& call) {
    const int sample = call.key.sample();
    if (call.node_path == "draft") return Say(Draft(sample, answers[static_cast<size_t>(sample)]));
    if (sample == 3) return Say("They are all fine.\nJudgment: 9");
    return Say(fmt::format("Judgment: {}", NumberOf(call, Draft(sample, answers[static_cast<size_t>(sample)]))));
  });
  EXPECT_EQ(log.finished().answer(), "2");
  EXPECT_EQ(log.finished().ledger().calls(), 12);
  const auto calls = log.calls_of("select");
  ASSERT_THAT(calls, SizeIs(4));
  EXPECT_THAT(calls[0]->ranking(), ElementsAre(0));
  EXPECT_THAT(calls[3]->ranking(), testing::IsEmpty()) << "a number that was not shown is no choice";
  std::set<std::vector<int>> orders;
  for (const auto* call : calls) orders.insert({call->shown().begin(), call->shown().end()});
  EXPECT_THAT(orders, SizeIs(4)) << "every choice sees an order of its own";
}

TEST(GenSelect, WithoutAnyChoiceTheVoteDecides) {
  // Dropped: the draft without an answer. Choices: lost, or unreadable. Nobody has a win; 3 has most votes.
  const auto graph = Shipped("genselect");
  const RunLog log = Drive(graph, SpecFor(*graph, {"solver"}), [&](const CallSpec& call) {
    if (call.node_path == "draft") {
      return Say(call.key.sample() == 0 ? "no idea" : Draft(call.key.sample(), call.key.sample() < 3 ? 2 : 3));
    }
    EXPECT_EQ(NumberOf(call, "no idea"), 0) << "an empty answer cannot win and is not shown";
    return call.key.sample() % 2 == 0 ? Lost() : Say("I cannot choose.");
  });
  EXPECT_EQ(log.finished().answer(), "3");
  EXPECT_EQ(log.finished().hole_count(), 2);
}

TEST(KnockOut, WinnersOfGroupsAdvanceUntilOneIsLeft) {
  // 16 in 4 groups of 4, then 4 in one group: the largest number wins every comparison.
  const auto graph = Shipped("knock_out");
  const RunLog log = Drive(graph, SpecFor(*graph, {"solver"}), [&](const CallSpec& call) {
    if (call.node_path == "draft") return Say(Draft(call.key.sample(), call.key.sample()));
    for (int sample = 15; sample >= 0; --sample) {
      if (const int number = NumberOf(call, Draft(sample, sample)); number > 0) {
        return Say(fmt::format("Judgment: {}", number));
      }
    }
    ADD_FAILURE();
    return Say("");
  });
  EXPECT_EQ(log.finished().answer(), "15");
  EXPECT_EQ(log.node("rounds").rounds(), 2);
  EXPECT_EQ(log.finished().ledger().calls(), 16 + 4 + 1);
  for (const auto* call : log.calls_of("rounds[1].select")) EXPECT_EQ(call->shown_size(), 4);
}

TEST(KnockOut, ALostChoiceEliminatesNobody) {
  // Round 1: group 0 is lost, so its 4 go on with the 3 winners. Round 2: 7 in groups of 4 and 3, one winner each.
  // Round 3: the last two.
  const auto graph = Shipped("knock_out");
  const RunLog log = Drive(graph, SpecFor(*graph, {"solver"}), [&](const CallSpec& call) {
    if (call.node_path == "draft") return Say(Draft(call.key.sample(), call.key.sample()));
    if (call.node_path == "rounds[1].select" && call.key.subject() == 0) return Lost();
    for (int sample = 0; sample < 16; ++sample) {
      if (const int number = NumberOf(call, Draft(sample, sample)); number > 0) {
        return Say(fmt::format("Judgment: {}", number));
      }
    }
    return Say("");
  });
  EXPECT_EQ(log.finished().answer(), "0") << "the smallest wins whatever the deal";
  EXPECT_EQ(log.node("rounds[1].winners").utterance_count(), 7);
  EXPECT_EQ(log.node("rounds[2].winners").utterance_count(), 2);
  EXPECT_EQ(log.node("rounds[3].winners").utterance_count(), 1);
  EXPECT_EQ(log.finished().hole_count(), 1);
}

const std::vector<std::string> kCouncil = {"solver", "dense/a", "dense/b", "dense/c", "dense/d"};

// The order in which a ranker names drafts, given as texts; those not shown are left out.
Reply Rank(const CallSpec& call, const std::vector<std::string>& best_first) {
  std::string text = "RANKING:";
  for (const std::string& draft : best_first) {
    if (const int number = NumberOf(call, draft); number > 0) text += fmt::format(" > {}", number);
  }
  return Say(text);
}

TEST(RankedCouncil, BordaWithoutSelfVotesAndTheChairmanReadsIt) {
  // Each ranks the three others; shares 1, 1/2, 0.
  //   a: d b c -> d 1, b 1/2, c 0      b: a d c -> a 1, d 1/2, c 0
  //   c: a d b -> a 1, d 1/2, b 0      d: a (only) -> a 1, b and c share places 2 and 3: 1/4 each
  // Means over three readers: a 1, b 1/4, c 1/12, d 2/3.
  const std::map<std::string, std::vector<std::string>> orders = {{"dense/a", {"D\n#### 4", "B\n#### 2", "C\n#### 3"}},
                                                                  {"dense/b", {"A\n#### 1", "D\n#### 4", "C\n#### 3"}},
                                                                  {"dense/c", {"A\n#### 1", "D\n#### 4", "B\n#### 2"}},
                                                                  {"dense/d", {"A\n#### 1"}}};
  const auto graph = Shipped("ranked_council");
  const RunLog log = Drive(graph, SpecFor(*graph, kCouncil), [&](const CallSpec& call) {
    const std::string& member = call.key.member();
    if (call.node_path == "draft") {
      return Say(fmt::format("{}\n#### {}", static_cast<char>(member.back() - 'a' + 'A'), member.back() - 'a' + 1));
    }
    if (call.node_path == "rank") {
      EXPECT_EQ(NumberOf(call, fmt::format("{}\n#### {}", static_cast<char>(member.back() - 'a' + 'A'),
                                           member.back() - 'a' + 1)),
                0)
          << "nobody ranks itself";
      EXPECT_THAT(call.prompt->messages.back().content(), Not(HasSubstr("dense/")));
      return Rank(call, orders.at(member));
    }
    return Say("The council says:\n#### 44");
  });
  EXPECT_EQ(log.finished().answer(), "44");
  const std::string prompt = PromptOf(log, "council.chair", "solver");
  EXPECT_THAT(prompt, HasSubstr("Answer 1, ranked 1.00:\nA"));
  EXPECT_THAT(prompt, HasSubstr("Answer 2, ranked 0.25:\nB"));
  EXPECT_THAT(prompt, HasSubstr("Answer 3, ranked 0.08:\nC"));
  EXPECT_THAT(prompt, HasSubstr("Answer 4, ranked 0.67:\nD"));
  EXPECT_EQ(log.node("best").answer(), "1");
}

TEST(RankedCouncil, WithoutTheChairmanTheBestRankedAnswers) {
  const auto graph = Shipped("ranked_council");
  const RunLog log = Drive(graph, SpecFor(*graph, kCouncil), [&](const CallSpec& call) {
    if (call.node_path == "draft") return Say(call.key.member() == "dense/c" ? "C\n#### 3" : "X\n#### 9");
    if (call.node_path == "rank") return Rank(call, {"C\n#### 3"});
    return Lost();
  });
  EXPECT_EQ(log.finished().answer(), "3");
}

TEST(RankedCouncil, ASmallPanelFallsBackToTheVote) {
  const auto graph = Shipped("ranked_council");
  const RunLog log = Drive(graph, SpecFor(*graph, kCouncil), [&](const CallSpec& call) {
    if (call.node_path == "draft") return Say(call.key.member() == "dense/c" ? "C\n#### 3" : "X\n#### 9");
    if (call.key.member() == "dense/a") return Rank(call, {"C\n#### 3"});
    return call.key.member() == "dense/b" ? Lost() : Say("no order");
  });
  EXPECT_EQ(log.node("council").note(), "otherwise") << "one ranking is no panel";
  EXPECT_EQ(log.finished().answer(), "9");
}

constexpr std::string_view kPairs = R"(
name: "pairs" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "duel" judge { role: "order" members: "j" of: "draft" method: PAIRS } }
node { name: "best" pick { of: "draft" by: BEST_OF_N weight: "duel.mean_score" } }
)";

TEST(Pairs, AWinCountsOnlyWhenBothOrdersConfirmIt) {
  // Three drafts. 1 against 2: always the first shown wins, so the two orders contradict: 1/2 each. 1 against 3: 3 wins
  // both: 1 and 0. 2 against 3: one call is unreadable: the pair says nothing.
  // Shares: 1: (1/2 + 0) / 2 = 1/4. 2: (1/2) / 1 = 1/2. 3: 1 / 1 = 1.
  const auto graph = MustCompile(kPairs);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "j"}), [&](const CallSpec& call) {
    if (call.node_path == "draft") return Say(fmt::format("#### {}", call.key.member().back()));
    const int one = NumberOf(call, "#### 1"), two = NumberOf(call, "#### 2"), three = NumberOf(call, "#### 3");
    if (one > 0 && two > 0) return Say("BEST: 1");
    if (one > 0) return Say(fmt::format("BEST: {}", three));
    return Say(two == 1 ? "BEST: 2" : "hm");
  });
  EXPECT_EQ(log.finished().answer(), "3");
  EXPECT_THAT(log.calls_of("duel"), SizeIs(6));
  EXPECT_THAT(log.calls_of("duel")[0]->shown(), ElementsAre(0, 1));
  EXPECT_THAT(log.calls_of("duel")[1]->shown(), ElementsAre(1, 0));
  // The mean over the three that were compared: (1/4 + 1/2 + 1) / 3.
  EXPECT_DOUBLE_EQ(log.node("duel").mean_score(), 7.0 / 12);
}

TEST(Choice, TheOddOneOutIsNotAsked) {
  const auto graph = MustCompile(R"(
name: "twos" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "duel" judge { role: "order" members: "j" of: "draft" method: RANKING window: 2 } }
node { name: "left" pick { of: "draft" by: FIRST where: "duel.shown == 0" } }
)");
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "j"}), [](const CallSpec& call) {
    return Say(call.role == "order" ? "BEST: 1" : "#### " + call.key.member().substr(1));
  });
  const auto calls = log.calls_of("duel");
  ASSERT_THAT(calls, SizeIs(1));
  EXPECT_EQ(log.finished().answer(), std::to_string(1 + 0 + 1 + 2 - calls[0]->shown(0) - calls[0]->shown(1)));
}

TEST(Pairs, OrderOfArrivalChangesNothing) {
  const auto graph = MustCompile(kPairs);
  std::string first;
  for (uint64_t arrival = 0; arrival < 20; ++arrival) {
    const RunLog log =
        Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "m4", "j"}),
              [&](const CallSpec& call) {
                if (call.node_path == "draft") return Say(fmt::format("#### {}", call.key.member().back()));
                return call.key.subject() % 5 == 0 ? Lost() : Say(fmt::format("BEST: {}", 1 + call.key.subject() % 2));
              },
              {.arrival_seed = arrival, .cancel_after = -1, .expire_after = -1});
    const std::string verdict = log.finished().ShortDebugString() + log.node("duel").ShortDebugString();
    if (arrival == 0) first = verdict;
    EXPECT_EQ(verdict, first) << arrival;
  }
}

TEST(Pairs, ACancelledRunEndsThoughComparisonsAreStillUnderWay) {
  const auto graph = MustCompile(kPairs);
  for (int64_t after = 0; after < 12; ++after) {
    const RunLog log =
        Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "j"}), [&](const CallSpec&) { return Say("BEST: 1\n#### 1"); },
              {.arrival_seed = 3, .cancel_after = after, .expire_after = -1});
    EXPECT_TRUE(log.machine->finished()) << after;
  }
}

}  // namespace
}  // namespace conclave::orchestrator
