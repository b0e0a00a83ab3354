// SPDX-License-Identifier: Apache-2.0
// Shipped graphs that call shipped graphs, against outcomes worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graphs/strategies_testing.h"

namespace conclave::orchestrator {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string> kMembers = {"dense/a", "dense/b", "dense/c", "planner", "critic", "verifier"};

// Two of three say 7; the council, if it is asked, comes to 9 in its first round.
const Script kScript = {
    {"vote.draft dense/a", "#### 7"},
    {"vote.draft dense/b", "#### 7"},
    {"vote.draft dense/c", "#### 8"},
    {"check verifier", "VERDICT: reject"},
    {"answer.council.plan planner", "Count again."},
    {"answer.council.draft dense/a", "#### 7"},
    {"answer.council.draft dense/b", "#### 9"},
    {"answer.council.draft dense/c", "#### 8"},
    {"answer.council.review[1].critique critic", "7 forgets two."},
    {"answer.council.review[1].revise dense/a", "#### 9"},
    {"answer.council.review[1].revise dense/b", "#### 9"},
    {"answer.council.review[1].revise dense/c", "#### 9"},
    {"answer.council.review[1].verify verifier", "VERDICT: accept"},
};

Script With(Script script, const std::vector<std::pair<std::string, std::string>>& lines) {
  for (const auto& [key, line] : lines) script[key] = line;
  return script;
}

TEST(VoteThenCouncil, AVoteThatIsAcceptedStandsAtThePriceOfTheVote) {
  // Two of three verdicts accept.
  const Script script =
      With(kScript, {{"check verifier 0/0", "VERDICT: accept"}, {"check verifier 2/0", "VERDICT: accept"}});
  const RunLog log = Play("vote_then_council", kMembers, script);
  EXPECT_EQ(log.finished().answer(), "7");
  EXPECT_EQ(log.finished().ledger().calls(), 3 + 3);
}

TEST(VoteThenCouncil, WhatIsRejectedGoesToTheCouncilWhichIsTold) {
  for (const uint64_t arrival : {0, 1, 2, 3}) {
    const RunLog log = Play("vote_then_council", kMembers, kScript, arrival);
    EXPECT_EQ(log.finished().answer(), "9");
    // Vote and verdicts, plan, two drafts of three, critique, three revisions, three verdicts.
    EXPECT_EQ(log.finished().ledger().calls(), 3 + 3 + 1 + 6 + 1 + 3 + 3);
    EXPECT_THAT(PromptOf(log, "answer.council.plan", "planner"), HasSubstr("A verifier has rejected the answer 7."));
  }
}

TEST(VoteThenCouncil, WithoutAnyAnswerTheCouncilIsAskedAsEver) {
  const Script script = With(
      kScript,
      {{"vote.draft dense/a", "I do not know."}, {"vote.draft dense/b", "lost"}, {"vote.draft dense/c", "Nor do I."}});
  const RunLog log = Play("vote_then_council", kMembers, script);
  EXPECT_EQ(log.finished().answer(), "9");
  EXPECT_EQ(log.finished().hole_count(), 1);
  EXPECT_EQ(PromptOf(log, "answer.council.plan", "planner").find("rejected"), std::string::npos);
}

TEST(VoteThenCouncil, WhenTheCouncilComesToNothingTheVoteStands) {
  std::vector<std::pair<std::string, std::string>> lost;
  for (const auto& [key, line] : kScript) {
    if (!key.starts_with("answer.council.")) continue;
    lost.emplace_back(key, "lost");
    if (const size_t at = key.find("[1]"); at != std::string::npos) {
      lost.emplace_back(key.substr(0, at) + "[2]" + key.substr(at + 3), "lost");
    }
  }
  EXPECT_EQ(Play("vote_then_council", kMembers, With(kScript, lost)).finished().answer(), "7");
}

TEST(VoteThenCouncil, TheCouncilsOwnBudgetEndsTheCouncilAlone) {
  // Its 20,000 tokens are spent with the drafts, of which the most frequent answer is taken: 8, three times of six.
  const Script script = With(kScript, {{"answer.council.draft dense/a 0/-1", "#### 8"}});
  const auto graph = Shipped("vote_then_council");
  const RunLog log = Drive(graph, SpecFor(*graph, kMembers), [&](const CallSpec& call) {
    Reply reply = FromScript(script, call);
    if (call.node_path == "answer.council.draft") reply.output_tokens = 4'000;
    return reply;
  });
  EXPECT_THAT(log.node("answer.council").note(), HasSubstr("the budget ran out"));
  EXPECT_EQ(log.finished().answer(), "8");
  EXPECT_FALSE(log.finished().best_effort());
}

}  // namespace
}  // namespace conclave::orchestrator
