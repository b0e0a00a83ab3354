// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "orchestrator/experiment/grade/grader.h"
#include "orchestrator/experiment/grade/graders.h"

namespace conclave::grade {
namespace {

class Gsm8kTest : public ::testing::Test {
 protected:
  std::string Text(std::string_view text) {
    const auto found = grader_->Extract(text, {});
    return found ? found->answer : "none";
  }
  std::string Answer(std::string_view answer) { return grader_->CanonicalKey(answer).value_or("none"); }

  std::unique_ptr<const Grader> grader_ = MakeGsm8kGrader();
};

TEST_F(Gsm8kTest, ReadsShortAnswers) {
  EXPECT_EQ(Answer("18"), "18");
  EXPECT_EQ(Answer("$18"), "18");
  EXPECT_EQ(Answer("540 meters"), "540");
  EXPECT_EQ(Answer("70,000"), "70000");
  EXPECT_EQ(Answer("-$10,000"), "-10000");
  EXPECT_EQ(Answer("$-10,000.00"), "-10000");
  EXPECT_EQ(Answer("42.0"), "42");
  EXPECT_EQ(Answer("42."), "42");
  EXPECT_EQ(Answer(".50"), "1/2");
  EXPECT_EQ(Answer("2/4"), "1/2");
  EXPECT_EQ(Answer("3 1/3"), "10/3");
  EXPECT_EQ(Answer("20%"), "20");
  EXPECT_EQ(Answer("$9 500"), "9500");
  EXPECT_EQ(Answer("48g"), "48");
  EXPECT_EQ(Answer("6th"), "6");
  EXPECT_EQ(Answer("67\""), "67");
  EXPECT_EQ(Answer("**€77**"), "77");
  EXPECT_EQ(Answer("$25,000/year"), "25000");
  EXPECT_EQ(Answer("2:00 pm"), "2");
  EXPECT_EQ(Answer("2:15"), "9/4");
  EXPECT_EQ(Answer("\u22128"), "-8");
  EXPECT_EQ(Answer("$\\boxed{7}$"), "7");
}

TEST_F(Gsm8kTest, ReadsWorkedAnswers) {
  EXPECT_EQ(Answer("2 + 8 + 6 = 16"), "16");
  EXPECT_EQ(Answer("35/7 = 5"), "5");
  EXPECT_EQ(Answer("20000 * (1 - 0.21)^3 = 20000 * 0.493039 = 9860.78"), "493039/50");
  EXPECT_EQ(Answer("6 + 3 rows of tulips = 9 rows of flowers"), "9");
  EXPECT_EQ(Answer("144 / 12 = 12 inches"), "12");
  EXPECT_EQ(Answer("P ≈ 44.95"), "899/20");
  EXPECT_EQ(Answer("4 (3 onions and 1 potato)"), "4");
  EXPECT_EQ(Answer("43 + 7 = 50 (at 7 he was 36 younger)"), "50");
  EXPECT_EQ(Answer("86 glasses and 42 plates"), "42");  // several numbers: the last
}

TEST_F(Gsm8kTest, WhatIsNotANumberIsNoAnswer) {
  EXPECT_EQ(Answer(""), "none");
  EXPECT_EQ(Answer("Cannot be determined"), "none");
  EXPECT_EQ(Answer("x - y"), "none");
  EXPECT_EQ(Answer("27+18"), "none");  // left unworked
  EXPECT_EQ(Answer("(150 * 2) + 240"), "none");
  EXPECT_EQ(Answer("110,00"), "none");  // 110.00 or 110,000?
  EXPECT_EQ(Answer("1/0"), "none");
  EXPECT_EQ(Answer("H2O"), "none");
  EXPECT_EQ(Answer(std::string(256, '7')), std::string(256, '7'));
  EXPECT_EQ(Answer(std::string(257, '7')), "none");
}

TEST_F(Gsm8kTest, EquivalenceIsOfValues) {
  EXPECT_TRUE(grader_->Equivalent("1,250", "$1250.00"));
  EXPECT_TRUE(grader_->Equivalent("0.5", "1/2"));
  EXPECT_TRUE(grader_->Equivalent("-0", "0.00"));
  EXPECT_FALSE(grader_->Equivalent("0.333", "1/3"));
  EXPECT_FALSE(grader_->Equivalent("unknown", "unknown"));  // ⊥ is equivalent to nothing, not even itself
  EXPECT_FALSE(grader_->Equivalent("9007199254740993", "9007199254740992"));  // equal as doubles
}

// The strings that other graders read wrongly (specs/evaluation.md §0, finding 11).
TEST_F(Gsm8kTest, StringsOtherGradersMisread) {
  EXPECT_EQ(Text("So the answer is 42..."), "42");
  EXPECT_EQ(Text("\\boxed{12}. (see step 3)"), "12");
}

TEST_F(Gsm8kTest, ResponseRulesInOrder) {
  EXPECT_EQ(Text("She has 3 left.\n#### 1,600"), "1600");
  EXPECT_EQ(Text("#### 5\nas in the example. Now mine.\n#### 7"), "7");  // recited examples: the last counts
  EXPECT_EQ(Text("{\"reasoning\": \"9 - 2\nis 7\", \"answer\": \"$7\"}"), "7");
  EXPECT_EQ(Text("```json\n{\"reasoning\": \"it is \\\"8\\\"\", \"answer\": 7\n}\n```"), "7");
  EXPECT_EQ(Text("{\"answer\": null}"), "none");
  EXPECT_EQ(Text("First 9 then $\\boxed{\\frac{1}{2}}$ no: \\boxed{11}, from step 3"), "11");
  EXPECT_EQ(Text("The final answer is: $145"), "145");
  EXPECT_EQ(Text("**Answer:** 12 apples.\nI checked it 3 times."), "12");
  EXPECT_EQ(Text("Answer:\n\n 14"), "14");
  EXPECT_EQ(Text("6 + 6 = 12 miles, so he walks 12 miles."), "12");
  EXPECT_EQ(Text("no number at all"), "none");
}

TEST_F(Gsm8kTest, ReasoningIsNotTheAnswer) {
  EXPECT_EQ(Text("<think>#### 5</think>\n#### 6"), "6");
  EXPECT_EQ(Text("<think>maybe 5, or 6"), "none");
  // An object cut off before its field: 30 is a step, not an answer.
  EXPECT_EQ(Text("```json\n{\"reasoning\": \"First, 60 / 2 = 30. The answer is 30 plus"), "none");
  EXPECT_EQ(Text("{\"reasoning\": \"ok\", \"answer\": \"12"), "none");
  // A marked answer without a number is not replaced by a number from the reasoning.
  EXPECT_EQ(Text("{\"reasoning\": \"9 - 2 = 7\", \"answer\": \"Cannot be determined\"}"), "none");
}

TEST_F(Gsm8kTest, GradesWithATrace) {
  const Reference reference = {.gold = "16 - 7 = 9. She makes 9 * 2 = $18.\n#### 18", .choices = {}};
  const std::string text = "It is 18 dollars.\n#### 18.0";
  const Grade grade = grader_->GradeText(text, reference);
  EXPECT_EQ(grade.outcome, Outcome::kCorrect);
  EXPECT_EQ(grade.strict, Outcome::kCorrect);
  EXPECT_EQ(grade.answer, "18");
  EXPECT_EQ(grade.gold, "18");
  EXPECT_EQ(grade.raw, "18.0");
  EXPECT_EQ(grade.rule, "gsm8k/hashes");
  EXPECT_EQ(text.substr(grade.begin, grade.end - grade.begin), "18.0");
}

TEST_F(Gsm8kTest, StrictAsksForTheBenchmarksForm) {
  const Grade boxed = grader_->GradeText("It is \\boxed{18}", {.gold = "18", .choices = {}});
  EXPECT_EQ(boxed.outcome, Outcome::kCorrect);
  EXPECT_EQ(boxed.strict, Outcome::kNoAnswer);
  const Grade unit = grader_->GradeText("#### 18 dollars", {.gold = "18", .choices = {}});
  EXPECT_EQ(unit.outcome, Outcome::kCorrect);
  EXPECT_EQ(unit.strict, Outcome::kNoAnswer);
}

TEST_F(Gsm8kTest, OtherOutcomes) {
  const Reference reference = {.gold = "18", .choices = {}};
  EXPECT_EQ(grader_->GradeText("#### 19", reference).outcome, Outcome::kWrong);
  EXPECT_EQ(grader_->GradeText("I give up", reference).outcome, Outcome::kNoAnswer);
  EXPECT_EQ(grader_->GradeText("I was about to", reference, Finish::kCutAtLength).outcome, Outcome::kTruncated);
  // Cut, but after the answer.
  EXPECT_EQ(grader_->GradeText("#### 18\nAnd now", reference, Finish::kCutAtLength).outcome, Outcome::kCorrect);
  const Grade bad = grader_->GradeText("#### 18", {.gold = "eighteen", .choices = {}});
  EXPECT_EQ(bad.outcome, Outcome::kGraderError);
  EXPECT_EQ(bad.rule, "unreadable_gold");
}

TEST_F(Gsm8kTest, PercentBothWaysOnlyForAPercentGold) {
  EXPECT_EQ(grader_->GradeAnswer("0.2", {.gold = "20%", .choices = {}}).outcome, Outcome::kCorrect);
  EXPECT_EQ(grader_->GradeAnswer("20", {.gold = "20%", .choices = {}}).outcome, Outcome::kCorrect);
  EXPECT_EQ(grader_->GradeAnswer("20%", {.gold = "20", .choices = {}}).outcome, Outcome::kCorrect);
  EXPECT_EQ(grader_->GradeAnswer("0.2", {.gold = "20", .choices = {}}).outcome, Outcome::kWrong);
}

// Texts made to make a scanner go back and forth: linear rules finish at once.
TEST_F(Gsm8kTest, HostileTexts) {
  for (std::string_view unit : {"=", "\\boxed{", "answer is ", "\"answer\":", "- ", "1,", "(", "$", "**", "####\n"}) {
    std::string text;
    while (text.size() < 200'000) text += unit;
    (void)grader_->Extract(text, {});
    (void)grader_->ReadAnswer(text, {});
  }
}

}  // namespace
}  // namespace conclave::grade
