// SPDX-License-Identifier: Apache-2.0
// The families of problems with steps: answers against independent solvers, wrong solutions, lengths, splits,
// stability.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "orchestrator/experiment/benchmark/generator.h"
#include "orchestrator/experiment/benchmark/steps/families.h"
#include "orchestrator/experiment/benchmark/steps/solvers_testing.h"
#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/status_matchers.h"

namespace conclave::benchmark {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 20260101;

// Calls `check(family, difficulty, problem, dice)` for problems of all families and difficulties.
template <typename Check>
void ForProblems(int each, const Check& check) {
  for (const Family& family : Families()) {
    for (int difficulty = 1; difficulty <= kDifficultyMax; ++difficulty) {
      for (int i = 0; i < each; ++i) {
        Dice dice(kSeed, Fnv1a64(family.name, static_cast<uint64_t>(1000 * difficulty + i)));
        const Problem problem = family.make(dice, difficulty);
        check(family, difficulty, problem, dice);
      }
    }
  }
}

TEST(StepsTest, AnswersAreRight) {
  ASSERT_EQ(Solvers().size(), Families().size());
  ForProblems(200, [](const Family& family, int, const Problem& problem, Dice&) {
    const Worked worked = WorkRightly(problem);
    EXPECT_EQ(Solvers().at(std::string(family.name))(problem.question), worked.answer)
        << family.name << ": " << problem.question << "\n"
        << SolutionText(worked);
    EXPECT_GE(worked.answer, 0);
    EXPECT_GE(worked.steps.size(), 1u);
    for (const Step& step : worked.steps) {
      EXPECT_THAT(step.text, HasSubstr(step.result)) << problem.question;
      EXPECT_FALSE(step.result.empty()) << problem.question;
      EXPECT_EQ(step.text.find('\n'), std::string::npos);
    }
  });
}

TEST(StepsTest, QuestionsAndSolutionsAreShort) {
  ForProblems(100, [](const Family& family, int difficulty, const Problem& problem, Dice&) {
    if (difficulty > 6) return;
    EXPECT_LE(problem.question.size(), 220u) << family.name << " " << difficulty;
    EXPECT_LE(SolutionText(WorkRightly(problem)).size(), 350u) << family.name << " " << difficulty;
    EXPECT_GE(problem.plan.size(), 2u);
    EXPECT_LE(problem.plan.size(), 5u);
  });
}

TEST(StepsTest, WrongSolutionsDifferInOnePlaceFirstAndEndWrongly) {
  std::map<std::string_view, std::pair<int, int>> miscopied;  // answer alone, all
  ForProblems(60, [&](const Family& family, int, const Problem& problem, Dice& dice) {
    const Worked right = WorkRightly(problem);
    Dice same = dice;
    const Worked wrong = WorkWrongly(problem, right, dice);
    EXPECT_NE(wrong.answer, right.answer) << problem.question;
    EXPECT_EQ(SolutionText(WorkWrongly(problem, right, same)), SolutionText(wrong));  // a function of the dice
    EXPECT_EQ(WorkRightly(problem).steps, right.steps);
    miscopied[family.name].first += wrong.steps == right.steps ? 1 : 0;
    miscopied[family.name].second += 1;
  });
  for (const auto& [family, counts] : miscopied) EXPECT_LT(counts.first, counts.second / 10) << family;
}

// Every slip there is, one after the other, comes to an end.
TEST(StepsTest, EverySlipEnds) {
  ForProblems(10, [](const Family&, int, const Problem& problem, Dice&) {
    Hand counting;
    problem.work(counting);
    for (int64_t at = 0; at < counting.occasions(); ++at) {
      Hand hand(kSeed, at);
      problem.work(hand);
      EXPECT_LE(hand.steps().size(), 2 * counting.steps().size() + 16) << problem.question;
    }
    Hand never(kSeed, counting.occasions());
    problem.work(never);
    EXPECT_EQ(never.steps(), counting.steps());
  });
}

TEST(StepsTest, MistakenIsNearAndNever) {
  Hand hand(kSeed, -1);
  for (const int64_t right : {0, 1, 9, 10, 11, 42, 99, 100, 12345}) {
    for (int i = 0; i < 200; ++i) {
      EXPECT_NE(hand.Mistaken(right), right);
      EXPECT_GE(hand.Mistaken(right), 0);
      EXPECT_LE(hand.Mistaken(-right - 1), 0);
    }
  }
}

// Answers must not be won by guessing: the most frequent one of a difficulty is rare.
TEST(StepsTest, AnswersAreHardToGuess) {
  std::map<std::string, std::map<int64_t, int>> answers;
  ForProblems(300, [&](const Family& family, int difficulty, const Problem& problem, Dice&) {
    if (difficulty >= 3) answers[fmt::format("{} {}", family.name, difficulty)][WorkRightly(problem).answer] += 1;
  });
  for (const auto& [name, counts] : answers) {
    int most = 0;
    for (const auto& [answer, count] : counts) most = std::max(most, count);
    EXPECT_LT(most, 60) << name;  // 20 %
  }
}

TEST(StepsTest, GeneratedItemsAreGradedCorrect) {
  const auto grader = grade::MakeGrader("gsm8k");
  ASSERT_OK(grader);
  const auto items = Generate({.kinds = {"steps"}, .count = 400, .seed = kSeed, .difficulty = 4});
  ASSERT_OK(items);
  std::set<std::string> strata;
  for (const Item& item : *items) {
    EXPECT_EQ((*grader)->GradeText(item.solution, {.gold = item.answer, .choices = {}}).outcome,
              grade::Outcome::kCorrect);
    strata.insert(item.stratum);
  }
  EXPECT_EQ(strata.size(), Families().size());
}

// Pinned: stored results refer to these items, and trained models to these texts.
TEST(StepsTest, ItemsAreTheSameEverywhere) {
  const auto items = Generate({.kinds = {"chain:2"}, .count = 1, .seed = 7, .difficulty = 1, .split = Split::kTest});
  ASSERT_OK(items);
  EXPECT_EQ((*items)[0].id, "synthetic-test-chain-7-0");
  EXPECT_EQ((*items)[0].question + "\n" + (*items)[0].solution,
            "Start with 3. Multiply by 8. Subtract 5. Add 28. What is the result?\n1. 3 * 8 = 24\n2. 24 - 5 = 19\n"
            "3. 19 + 28 = 47\n#### 47");
  // All texts of all families: FNV-1a over question and solution.
  uint64_t hash = 0xcbf29ce484222325ULL;
  ForProblems(20, [&](const Family&, int, const Problem& problem, Dice&) {
    hash = Fnv1a64(problem.question + "\n" + SolutionText(WorkRightly(problem)), hash);
  });
  EXPECT_EQ(hash, 5997391732060628140u);
}

TEST(StepsTest, KindsHaveTheirOwnDifficulty) {
  const auto plain = Generate({.kinds = {"addition"}, .count = 20, .seed = 1, .difficulty = 5});
  const auto own = Generate({.kinds = {"addition:5"}, .count = 20, .seed = 1, .difficulty = 1});
  const auto range = Generate({.kinds = {"addition:4-6"}, .count = 3, .seed = 1, .difficulty = 1});
  ASSERT_OK(plain);
  ASSERT_OK(own);
  ASSERT_OK(range);
  EXPECT_EQ(*plain, *own);
  EXPECT_EQ((*range)[1].question, (*Generate({.kinds = {"addition:5"}, .count = 2, .seed = 1}))[1].question);
  EXPECT_EQ((*range)[2].question, (*Generate({.kinds = {"addition:6"}, .count = 3, .seed = 1}))[2].question);
  for (const char* bad :
       {"chain:", "chain:0", "chain:11", "chain:2-11", "chain:4-2", "chain:x", "chain:2-", "chain:2x"}) {
    EXPECT_THAT(Generate({.kinds = {bad}, .count = 1}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("kind \"chain\": difficulty is")))
        << bad;
  }
}

// Nothing that is trained on can be tested on: the split is a function of the question, and each draw keeps to it.
TEST(StepsTest, SplitsShareNoQuestion) {
  std::map<std::string, Split> seen;
  std::map<Split, size_t> counts;
  for (const Split split : {Split::kTrain, Split::kDevelopment, Split::kTest}) {
    for (const uint64_t seed : {1, 2}) {  // seeds overlap in questions; splits never
      const auto items =
          Generate({.kinds = {"steps:3-9"}, .count = 5000, .seed = seed, .difficulty = 1, .split = split});
      ASSERT_OK(items);
      for (const Item& item : *items) {
        EXPECT_EQ(SplitOf(item.question), split);
        const auto [at, is_new] = seen.emplace(item.question, split);
        EXPECT_EQ(at->second, split) << item.question;
        EXPECT_THAT(item.id, HasSubstr(SplitName(split)));
      }
    }
  }
  // The shares: 10,000 questions, each split within five standard deviations (5 * sqrt(.8 * .2 * 10,000) = 200).
  const auto all = Generate({.kinds = {"chain:8"}, .count = 10'000, .seed = 3});
  ASSERT_OK(all);
  for (const Item& item : *all) counts[SplitOf(item.question)] += 1;
  EXPECT_NEAR(static_cast<double>(counts[Split::kTrain]), 8000, 200);
  EXPECT_NEAR(static_cast<double>(counts[Split::kTest]), 1000, 150);
  EXPECT_NEAR(static_cast<double>(counts[Split::kDevelopment]), 1000, 150);
  for (const Split split : {Split::kTrain, Split::kDevelopment, Split::kTest}) {
    EXPECT_EQ(SplitNamed(SplitName(split)), split);
  }
  EXPECT_EQ(SplitNamed("validation"), std::nullopt);
}

}  // namespace
}  // namespace conclave::benchmark
