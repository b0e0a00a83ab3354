// SPDX-License-Identifier: Apache-2.0
// Every gold answer of BIG-Bench Hard and of Knights and Knaves, and the worked examples shipped with BBH, graded
// (../shared/data/benchmarks).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <filesystem>
#include <string>

#include "common/file.h"
#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::grade {
namespace {

TEST(PuzzlesSharedTest, BbhGoldsAndPrompts) {
  SKIP_WITHOUT_SHARED(folder, "data/benchmarks/bbh");
  const auto grader = MakeGrader("bbh");
  ASSERT_OK(grader);
  int tasks = 0;
  int graded = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".json") continue;
    ++tasks;
    simdjson::dom::parser parser;
    simdjson::dom::element root = parser.load(file.path().string());
    std::string before;
    for (auto example : root["examples"].get_array()) {
      const std::string gold{std::string_view(example["target"])};
      const Grade right = (*grader)->GradeText("Let's think. So the answer is " + gold + ".", {gold, {}});
      EXPECT_EQ(right.outcome, Outcome::kCorrect) << file.path() << " " << gold << " was read as " << right.answer;
      if (!before.empty() && before != gold) {
        EXPECT_EQ((*grader)->GradeText("So the answer is " + before + ".", {gold, {}}).outcome, Outcome::kWrong)
            << file.path() << " " << before << " for " << gold;
      }
      before = gold;
      ++graded;
    }
  }
  EXPECT_EQ(tasks, 27);
  EXPECT_EQ(graded, 6511);  // the published count
}

TEST(PuzzlesSharedTest, KnightsAndKnavesGolds) {
  SKIP_WITHOUT_SHARED(path, "data/benchmarks/knights_knaves/kk_test.jsonl");
  const auto grader = MakeGrader("knights_knaves");
  ASSERT_OK(grader);
  simdjson::dom::parser parser;
  simdjson::dom::document_stream rows = parser.load_many(path);
  int graded = 0;
  for (auto row : rows) {
    const std::string gold{std::string_view(row["solution_text"])};
    std::string right = "CONCLUSION:";
    std::string wrong = right;
    size_t k = 0;
    simdjson::dom::array solution = row["solution"];
    for (auto name : row["names"].get_array()) {
      const bool knight = solution.at(k);
      const auto line = [&](bool is_knight) {
        return "\n(" + std::to_string(k + 1) + ") " + std::string(std::string_view(name)) + " is a " +
               (is_knight ? "knight" : "knave");
      };
      right += line(knight);
      wrong += line(k == 0 ? !knight : knight);
      ++k;
    }
    EXPECT_EQ((*grader)->GradeText(right, {gold, {}}).outcome, Outcome::kCorrect) << gold;
    EXPECT_EQ((*grader)->GradeText(wrong, {gold, {}}).outcome, Outcome::kWrong) << gold;
    ++graded;
  }
  EXPECT_EQ(graded, 500);
}

}  // namespace
}  // namespace conclave::grade
