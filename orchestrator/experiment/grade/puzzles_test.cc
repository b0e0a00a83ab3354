// SPDX-License-Identifier: Apache-2.0
// The bbh, game24 and knights_knaves graders on cases of our own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/status_matchers.h"

namespace conclave::grade {
namespace {

class PuzzlesTest : public ::testing::Test {
 protected:
  static Grade Of(std::string_view grader, std::string_view text, std::string_view gold,
                  const std::vector<std::string>& choices = {}) {
    return (*MakeGrader(grader))->GradeText(text, {gold, choices});
  }
};

TEST_F(PuzzlesTest, BbhTypes) {
  struct Case {
    std::string_view text, gold;
    Outcome outcome;
  };
  const std::vector<Case> cases = {
      {"Let's think. So the answer is (B).", "(B)", Outcome::kCorrect},
      {"So the answer is B.", "(B)", Outcome::kCorrect},
      {"the answer is (B) Paris", "(B)", Outcome::kCorrect},
      {"So the answer is (C).", "(B)", Outcome::kWrong},
      {"We see that (A) fails, so it must be (D)", "(D)", Outcome::kCorrect},
      {"So the answer is True.", "True", Outcome::kCorrect},
      {"So the answer is false.", "True", Outcome::kWrong},
      {"So the answer is Yes, because they met.", "Yes", Outcome::kCorrect},
      {"The argument is not sound. The answer is invalid.", "valid", Outcome::kWrong},
      {"So the answer is deductively valid.", "valid", Outcome::kCorrect},
      {"So the answer is 1,071.", "1071", Outcome::kCorrect},
      {"So the answer is -50.", "50", Outcome::kWrong},
      {"So the answer is ] } ].", "] } ]", Outcome::kCorrect},
      {"So the answer is ]}].", "] } ]", Outcome::kCorrect},
      {"So the answer is ] ].", "] } ]", Outcome::kWrong},
      {"So the answer is blurb, hearse, syndrome.", "blurb hearse syndrome", Outcome::kCorrect},
      {"So the answer is hearse blurb syndrome.", "blurb hearse syndrome", Outcome::kWrong},
      {"no", "no", Outcome::kCorrect},
      {"I am not sure", "(B)", Outcome::kWrong},
      {"", "(B)", Outcome::kNoAnswer},
  };
  for (const Case& c : cases) {
    const Grade grade = Of("bbh", c.text, c.gold);
    EXPECT_EQ(grade.outcome, c.outcome) << c.text << " was read as " << grade.answer;
  }
  // A gold in words is the option of that wording.
  EXPECT_EQ(Of("bbh", "the answer is (B)", "Monsters, Inc", {"Up", "Monsters, Inc"}).outcome, Outcome::kCorrect);
  EXPECT_EQ(Of("bbh", "the answer is (A)", "Monsters, Inc", {"Up", "Monsters, Inc"}).outcome, Outcome::kWrong);
}

TEST_F(PuzzlesTest, Game24) {
  struct Case {
    std::string_view text, puzzle;
    Outcome outcome;
  };
  const std::vector<Case> cases = {
      {"Answer: (5 - 1/5) * 5 = 24", "1 5 5 5", Outcome::kCorrect},  // needs fractions: 24/5 * 5
      {"8 / (3 - 8/3)", "3 3 8 8", Outcome::kCorrect},
      {"Steps:\n4 + 8 = 12\nAnswer: (4 + 8) * (6 - 4) = 24", "4 4 6 8", Outcome::kCorrect},
      {"\\boxed{(4+8) \\times (6-4)}", "4 4 6 8", Outcome::kCorrect},
      {"(4 + 8) × (6 − 4)", "8 6 4 4", Outcome::kCorrect},
      {"Answer: (4 + 8) * 2 = 24", "4 4 6 8", Outcome::kWrong},                // 2 was not given
      {"Answer: 4 * 6 = 24", "4 4 6 8", Outcome::kWrong},                      // two numbers unused
      {"Answer: (4 + 8) * (6 - 4) + 6 - 6 = 24", "4 4 6 8", Outcome::kWrong},  // 6 used thrice
      {"Answer: 4 + 4 + 6 + 8 = 24", "4 4 6 8", Outcome::kWrong},              // 22, whatever it says
      {"Answer: 44 - 6 - 8 = 24", "4 4 6 8", Outcome::kWrong},                 // digits put together
      {"Answer: 4! * 6 / 6 = 24", "4 6 6 1", Outcome::kNoAnswer},              // no such operation
      {"Answer: 4^2 + 8 = 24", "4 2 8 1", Outcome::kNoAnswer},
      {"Answer: 24", "4 4 6 8", Outcome::kNoAnswer},
      {"Answer: 24/(4-4)/6/8", "4 4 6 8", Outcome::kNoAnswer},  // division by 0
      {"__import__('os').system('true')", "4 4 6 8", Outcome::kNoAnswer},
      {"I cannot do it", "4 4 6 8", Outcome::kNoAnswer},
      {"(4 + 8) * (6 - 4)", "none", Outcome::kGraderError},
  };
  for (const Case& c : cases) {
    const Grade grade = Of("game24", c.text, c.puzzle);
    EXPECT_EQ(grade.outcome, c.outcome) << c.text << " was read as " << grade.answer;
  }
  EXPECT_TRUE((*MakeGrader("game24"))->Equivalent("(4+8)*(6-4)", "(6-4)*(8+4)"));
}

TEST_F(PuzzlesTest, KnightsAndKnaves) {
  const std::string_view gold = "Zoey is a knave, and Oliver is a knight.";
  const auto outcome = [&](std::string_view text, const std::vector<std::string>& names = {}) {
    return Of("knights_knaves", text, gold, names).outcome;
  };
  EXPECT_EQ(outcome("If Zoey is a knight, then no.\n\nCONCLUSION:\n(1) Zoey is a knave\n(2) Oliver is a knight"),
            Outcome::kCorrect);
  EXPECT_EQ(outcome("CONCLUSION:\n(1) Oliver is a **knight**\n(2) Zoey is a **knave**."), Outcome::kCorrect);
  EXPECT_EQ(outcome("CONCLUSION:\n(1) Zoey is a knave\n(2) Oliver is a knave"), Outcome::kWrong);
  EXPECT_EQ(outcome("CONCLUSION:\n(1) Zoey is a knave"), Outcome::kWrong);  // not everybody
  EXPECT_EQ(outcome("Assume Zoey is a knight. That fails, so Zoey is a knave and Oliver is a knight."),
            Outcome::kCorrect);
  EXPECT_EQ(outcome("**Zoey**: knave\n**Oliver**: knight"), Outcome::kCorrect);
  EXPECT_EQ(outcome("Somebody is a knight"), Outcome::kWrong);
  EXPECT_EQ(outcome("Somebody is a knight", {"Zoey", "Oliver"}), Outcome::kNoAnswer);
  EXPECT_EQ(outcome("Who is a knight? I cannot say."), Outcome::kNoAnswer);
  EXPECT_EQ(Of("knights_knaves", "x", "nobody").outcome, Outcome::kGraderError);
}

TEST_F(PuzzlesTest, HostileMegabyte) {
  constexpr size_t kBytes = size_t{1} << 20;
  for (std::string_view unit :
       {"(B) ", "answer is ", "1+", "(", "\n", "1+1\n", "A is a knight ", "CONCLUSION", "x", "\\boxed{"}) {
    std::string text;
    while (text.size() < kBytes) text += unit;
    for (std::string_view grader : {"bbh", "game24", "knights_knaves", "choice", "exact", "gsm8k"}) {
      (void)Of(grader, text, "1 2 3 4 A is a knight");
    }
  }
}

}  // namespace
}  // namespace conclave::grade
