// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/grader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace conclave::grade {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

TEST(GraderTest, ByName) {
  for (std::string_view name : GraderNames()) {
    const auto grader = MakeGrader(name);
    if (name == "code" && !grader.ok()) {  // no sandbox here: refused, and said why
      EXPECT_THAT(grader, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("bubblewrap")));
      continue;
    }
    ASSERT_OK(grader);
    EXPECT_EQ((*grader)->name(), name);
  }
  EXPECT_THAT(MakeGrader("gsm8"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("choice, code, exact, game24, gsm8k")));
}

TEST(GraderTest, OutcomeNamesRoundTrip) {
  for (Outcome outcome : {Outcome::kCorrect, Outcome::kWrong, Outcome::kNoAnswer, Outcome::kTruncated,
                          Outcome::kGraderError, Outcome::kFailed}) {
    EXPECT_EQ(OutcomeFromName(OutcomeName(outcome)), outcome);
  }
  EXPECT_EQ(OutcomeName(Outcome::kNoAnswer), "no_answer");
  EXPECT_EQ(OutcomeFromName("Correct"), std::nullopt);
}

TEST(ExactTest, ComparesText) {
  const auto grader = MakeGrader("exact");
  ASSERT_OK(grader);
  const Reference reference = {.gold = "New York", .choices = {}};
  const Grade same = (*grader)->GradeText("New York", reference);
  EXPECT_EQ(same.outcome, Outcome::kCorrect);
  EXPECT_EQ(same.strict, Outcome::kCorrect);
  const Grade loose = (*grader)->GradeText("I think so.\nAnswer: **new  york**.", reference);
  EXPECT_EQ(loose.outcome, Outcome::kCorrect);
  EXPECT_EQ(loose.strict, Outcome::kWrong);
  EXPECT_EQ(loose.rule, "exact/answer_is");
  EXPECT_EQ((*grader)->GradeText("York", reference).outcome, Outcome::kWrong);
  EXPECT_EQ((*grader)->GradeText(" \n", reference).outcome, Outcome::kNoAnswer);
  EXPECT_EQ((*grader)->GradeText("{\"answer\": \"New York\"}", reference).outcome, Outcome::kCorrect);
  EXPECT_EQ((*grader)->GradeText("x", {.gold = "", .choices = {}}).outcome, Outcome::kGraderError);
}

class ChoiceTest : public ::testing::Test {
 protected:
  std::string Text(std::string_view text) {
    const auto found = grader_->Extract(text, {.gold = "", .choices = choices_});
    return found ? found->answer : "none";
  }
  std::unique_ptr<const Grader> grader_ = *MakeGrader("choice");
  std::vector<std::string> choices_ = {"Paris", "Rome", "the city of London", "none of the above"};
};

TEST_F(ChoiceTest, ReadsLetters) {
  EXPECT_EQ(Text("B"), "B");
  EXPECT_EQ(Text("(b)."), "B");
  EXPECT_EQ(Text("B. Rome"), "B");
  EXPECT_EQ(Text("Answer: C"), "C");
  EXPECT_EQ(Text("First (A) looks good. The answer is (D)."), "D");
  EXPECT_EQ(Text("So the correct answer is option B, because"), "B");
  EXPECT_EQ(Text("the answer is **A**"), "A");
  EXPECT_EQ(Text("The answer is A because of the tower"), "A");
  EXPECT_EQ(Text("\\boxed{C}"), "C");
  EXPECT_EQ(Text("{\"reasoning\": \"(A)?\", \"answer\": \"B\"}"), "B");
  EXPECT_EQ(Text("We exclude (A) and (C), which leaves (B)"), "B");
}

TEST_F(ChoiceTest, FallsBackToOptionTextOnlyIfUnique) {
  EXPECT_EQ(Text("The answer is Rome."), "B");
  EXPECT_EQ(Text("Clearly it must be the city of London!"), "C");
  EXPECT_EQ(Text("The answer is Paris or Rome."), "none");
  EXPECT_EQ(Text("The answer is A city in France"), "none");  // an article, and no option's words
  EXPECT_EQ(Text("Answer: E"), "none");                       // there is no fifth option
  EXPECT_EQ(Text("romeo and juliet"), "none");                // inside a word
}

TEST_F(ChoiceTest, Grades) {
  EXPECT_EQ(grader_->GradeText("(B)", {.gold = "B", .choices = choices_}).outcome, Outcome::kCorrect);
  EXPECT_EQ(grader_->GradeText("(B)", {.gold = "Rome", .choices = choices_}).outcome, Outcome::kCorrect);
  EXPECT_EQ(grader_->GradeText("(C)", {.gold = "B", .choices = choices_}).outcome, Outcome::kWrong);
  EXPECT_EQ(grader_->GradeText("dunno", {.gold = "B", .choices = choices_}).outcome, Outcome::kNoAnswer);
  EXPECT_TRUE(grader_->Equivalent("(b)", "B.", {.gold = "", .choices = choices_}));
}

}  // namespace
}  // namespace conclave::grade
