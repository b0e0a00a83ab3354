// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/role/contract.h"

#include <gtest/gtest.h>

#include <cmath>

namespace conclave::orchestrator {
namespace {

VerdictReader Reader(const char* score_after = "", double score_max = 1) {
  deliberation::v1::VerdictContract contract;
  contract.add_accept("VERDICT: accept");
  contract.add_reject("VERDICT: reject");
  contract.set_score_after(score_after);
  contract.set_score_max(score_max);
  return VerdictReader(contract);
}

TEST(Verdict, TheLastPhraseDecides) {
  EXPECT_EQ(Reader().Read("I checked it.\nVERDICT: accept").accept, true);
  EXPECT_EQ(Reader().Read("VERDICT: accept? No. VERDICT: reject").accept, false);
  EXPECT_EQ(Reader().Read("VERDICT: reject, at first. VERDICT: accept.").accept, true);
  EXPECT_EQ(Reader().Read("VERDICT: accept").score, 1.0);
  EXPECT_EQ(Reader().Read("VERDICT: reject").score, 0.0);
}

TEST(Verdict, CaseEmphasisAndSpacesDoNotMatter) {
  EXPECT_EQ(Reader().Read("**Verdict:**  Accept").accept, true);
  EXPECT_EQ(Reader().Read("verdict:\n`REJECT`").accept, false);
}

TEST(Verdict, NothingSaidIsNoVerdict) {
  const Reading reading = Reader("SCORE:").Read("I am not sure. SCORE: 1");
  EXPECT_FALSE(reading.accept.has_value());
  EXPECT_FALSE(reading.score.has_value());
  EXPECT_FALSE(Reader().Read("").accept.has_value());
}

TEST(Verdict, ReasoningIsNotTheVerdict) {
  EXPECT_EQ(Reader().Read("<think>VERDICT: accept</think> VERDICT: reject").accept, false);
  EXPECT_FALSE(Reader().Read("<think>VERDICT: accept, or").accept.has_value());
}

TEST(Verdict, Scores) {
  EXPECT_DOUBLE_EQ(*Reader("SCORE:", 10).Read("Score: 7.5/10\nVERDICT: accept").score, 0.75);
  EXPECT_DOUBLE_EQ(*Reader("SCORE:", 10).Read("**SCORE:** 70\nVERDICT: reject").score, 1.0) << "clamped";
  EXPECT_DOUBLE_EQ(*Reader("SCORE:", 10).Read("SCORE: -3\nVERDICT: reject").score, 0.0);
  EXPECT_DOUBLE_EQ(*Reader("SCORE:", 10).Read("SCORE: high\nVERDICT: accept").score, 1.0) << "no number";
}

TEST(Verdict, Probabilities) {
  EXPECT_EQ(ReadProbability(0.5).accept, true);
  EXPECT_EQ(ReadProbability(0.49).accept, false);
  EXPECT_EQ(ReadProbability(0.3).score, 0.3);
  EXPECT_FALSE(ReadProbability(std::nan("")).accept.has_value());
  EXPECT_FALSE(ReadProbability(1.5).score.has_value());
}

TEST(Reasoning, IsStripped) {
  EXPECT_EQ(WithoutReasoning("<think>a</think>\n b \n"), "b");
  EXPECT_EQ(WithoutReasoning("a</think>b</think>c"), "c");
  EXPECT_EQ(WithoutReasoning(" plain "), "plain");
  EXPECT_EQ(WithoutReasoning("<think>never closed"), "");
  EXPECT_EQ(WithoutReasoning(""), "");
}

TEST(Answer, ReadsByTheGradersRules) {
  const auto grader = *grade::MakeGrader("gsm8k");
  EXPECT_EQ(ReadAnswerIn(*grader, "2 + 2 = 4\n#### 1,250.00"), "1250");
  EXPECT_EQ(ReadAnswerIn(*grader, "I do not know."), std::nullopt);
  EXPECT_EQ(ReadShortAnswer(*grader, "$18"), "18");
}

TEST(Items, HeadsNeedsAndWhatFollows) {
  deliberation::v1::ItemsContract contract;
  contract.set_max(3);
  const auto read = [&](std::string_view text) {
    std::string told;
    for (const PlanItem& item : ReadItems(contract, text)) {
      told += item.id + "(";
      for (const int32_t need : item.needs) told += std::to_string(need);
      told += ")" + item.text + ";";
    }
    return told;
  };
  EXPECT_EQ(read("<think>[z] no</think>Plan:\n[a] one\n  more of it\n\n [b_2: needs a] two\n[c:needs b_2 , a] three"),
            "a()one\nmore of it;b_2(0)two;c(10)three;");
  EXPECT_EQ(read("[a]\n[b]x"), "a();b()x;");
  EXPECT_EQ(read("no plan"), "");
  EXPECT_EQ(read(""), "");
  EXPECT_EQ(read("[a] x\n[a] y"), "") << "twice";
  EXPECT_EQ(read("[a: needs b] x\n[b] y"), "") << "not before";
  EXPECT_EQ(read("[a: needs a] x"), "") << "itself";
  EXPECT_EQ(read("[a: wants b] x"), "");
  EXPECT_EQ(read("[a] 1\n[b] 2\n[c] 3\n[d] 4"), "") << "one more than three";
  EXPECT_EQ(read("[a] x\n[not an id] y"), "a()x\n[not an id] y;") << "a line of another form goes on";
  EXPECT_EQ(read("[abcdefghijklmnop] 16"), "abcdefghijklmnop()16;");
  EXPECT_EQ(read("[abcdefghijklmnopq] 17"), "");
}

TEST(Label, TheLastInTheTextAndTheLongest) {
  deliberation::v1::LabelContract contract;
  for (const char* option : {"easy", "Hard", "hard as nails", "medium"}) contract.add_option(option);
  EXPECT_EQ(ReadLabel(contract, "not easy but **HARD**."), "Hard");
  EXPECT_EQ(ReadLabel(contract, "hard as nails"), "hard as nails");
  EXPECT_EQ(ReadLabel(contract, "<think>medium</think> easy"), "easy");
  EXPECT_EQ(ReadLabel(contract, "I cannot say"), std::nullopt);
  EXPECT_EQ(ReadLabel(contract, ""), std::nullopt);
}

TEST(Rubric, AllCriteriaOrNoVerdict) {
  deliberation::v1::VerdictContract contract;
  for (const auto& [after, weight] : {std::pair("A:", 3.0), {"B:", 1.0}}) {
    auto* criterion = contract.add_criterion();
    criterion->set_after(after);
    criterion->set_max(10);
    criterion->set_weight(weight);
  }
  contract.set_accept_from(0.75);
  const VerdictReader reader(contract);
  const Reading full = reader.Read("a: 10\nB: 0");
  EXPECT_EQ(full.score, 0.75);
  EXPECT_EQ(full.accept, true);
  EXPECT_EQ(reader.Read("A: 9\nB: 2").accept, false) << "(3 x 0.9 + 0.2) / 4 = 0.725";
  EXPECT_EQ(reader.Read("A: 25\nB: -4").score, 0.75) << "out of range is at the edge";
  EXPECT_EQ(reader.Read("A: 10").score, std::nullopt);
  EXPECT_EQ(reader.Read("A: 10").accept, std::nullopt);
}

TEST(Ranking, TheLastLineWithThePhraseCounts) {
  deliberation::v1::RankingContract contract;
  contract.set_after("Ranking:");
  const auto read = [&](std::string_view text) { return ReadRanking(contract, 4, text); };
  using Order = std::vector<int32_t>;
  EXPECT_EQ(read("RANKING: 2 > 1 > 3"), (Order{1, 0, 2}));
  EXPECT_EQ(read("ranking: 1\n**Ranking:** 3, 4\n7 more words"), (Order{2, 3}));
  EXPECT_EQ(read("ranking: Solution 2, then solution 2 and 4"), (Order{1, 3})) << "repeats count once";
  EXPECT_EQ(read("<think>ranking: 1</think>ranking: 4"), (Order{3}));
  EXPECT_EQ(read("ranking: 4 > 5"), Order{}) << "5 was not shown";
  EXPECT_EQ(read("ranking: 0"), Order{});
  EXPECT_EQ(read("ranking: 99999999999999999999"), Order{});
  EXPECT_EQ(read("ranking: none"), Order{});
  EXPECT_EQ(read("1 > 2"), Order{});
  EXPECT_EQ(read(""), Order{});
}

TEST(Confidence, OverItsMaximumOrNone) {
  deliberation::v1::AnswerContract contract;
  contract.set_confidence_after("CONFIDENCE:");
  EXPECT_EQ(ReadConfidence(contract, "Confidence: 0.25\nconfidence: 0.75\n#### 4"), 0.75);
  EXPECT_EQ(ReadConfidence(contract, "confidence: 1.01"), std::nullopt);
  EXPECT_EQ(ReadConfidence(contract, "confidence: -0.1"), std::nullopt);
  EXPECT_EQ(ReadConfidence(contract, "confidence: high"), std::nullopt);
  contract.set_confidence_max(100);
  EXPECT_EQ(ReadConfidence(contract, "confidence: 85"), 0.85);
}

}  // namespace
}  // namespace conclave::orchestrator
