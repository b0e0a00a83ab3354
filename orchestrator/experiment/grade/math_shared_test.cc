// SPDX-License-Identifier: Apache-2.0
// The math grader against public cases (../shared/data): 319 pairs collected from other graders' tests, and every gold
// answer of MATH-500 written in twenty ways.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/file.h"
#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::grade {
namespace {

// The first column of each line that is no comment: the number of a case, from 1.
std::set<int> ListedMisses() {
  std::set<int> misses;
  const auto file = ReadFile(CONCLAVE_SOURCE_DIR "/orchestrator/experiment/grade/testdata/equivalence_misses.tsv");
  if (!file.ok()) return misses;
  for (size_t begin = 0; begin < file->size();) {
    const std::string line = file->substr(begin, file->find('\n', begin) - begin);
    begin += line.size() + 1;
    if (!line.empty() && line[0] != '#') misses.insert(std::stoi(line));
  }
  return misses;
}

TEST(MathSharedTest, EquivalenceCases) {
  SKIP_WITHOUT_SHARED(path, "data/grading/equivalence.jsonl");
  const auto grader = MakeGrader("math");
  ASSERT_OK(grader);
  simdjson::dom::parser parser;
  simdjson::dom::document_stream rows = parser.load_many(path);
  int number = 0;
  int false_accepts = 0;
  std::set<int> misses;
  for (auto row : rows) {
    ++number;
    const std::string_view gold = row["gold"];
    const Grade grade = (*grader)->GradeText(std::string_view(row["pred"]), {gold, {}});
    const bool equal = grade.outcome == Outcome::kCorrect;
    if (equal == bool{row["equal"]}) continue;
    misses.insert(number);
    false_accepts += equal ? 1 : 0;
  }
  EXPECT_EQ(number, 319);
  EXPECT_LE(misses.size(), 319 - 307);
  EXPECT_LT(false_accepts, 3);
  EXPECT_EQ(misses, ListedMisses());
}

void Replace(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

std::string With(std::string text, std::string_view from, std::string_view to) {
  Replace(text, from, to);
  return text;
}

std::string Fractions(const std::string& gold, std::string_view command) {
  std::string out = gold;
  for (std::string_view other : {"\\dfrac", "\\tfrac", "\\cfrac"}) Replace(out, other, "\\frac");
  Replace(out, "\\frac", command);
  return out;
}

// The same answer as twenty people might write it.
std::vector<std::string> Variants(const std::string& gold) {
  std::string stretched = With(With(gold, ",", " , "), "=", " = ");
  if (gold.find("\\!") != std::string::npos || gold.find(",") != std::string::npos) stretched = gold;  // 10,\!080
  std::string tight = gold;
  std::erase(tight, ' ');
  if (gold.find("\\ ") != std::string::npos || gold.find("cup") != std::string::npos ||
      gold.find("\\text") != std::string::npos || gold.find("\\in") != std::string::npos ||
      gold.find("\\pi") != std::string::npos || gold.find("\\pm") != std::string::npos ||
      gold.find("\\cot") != std::string::npos) {
    tight = gold;  // "\cup (" may lose its space, "\pi x" may not
  }
  const bool named = gold.find('=') != std::string::npos || gold.find("\\in") != std::string::npos ||
                     gold.find("\\text{") != std::string::npos;
  return {gold,
          "\\boxed{" + gold + "}",
          "$" + gold + "$",
          "\\(" + gold + "\\)",
          "\\[" + gold + "\\]",
          "$\\boxed{" + gold + "}$.",
          "The final answer is $" + gold + "$. I hope it is correct.",
          "Step 1: we look at 17 cases.\n\nThe answer is \\boxed{" + gold + "}.",
          "Adding 3 and 4 does not help. Therefore, the answer is $" + gold + "$.",
          "**Answer:** $" + gold + "$",
          "Final Answer: $\\boxed{" + gold + "}$",
          "\\boxed{" + Fractions(gold, "\\dfrac") + "}",
          "\\boxed{" + Fractions(gold, "\\tfrac") + "}",
          "\\boxed{" + With(With(gold, "\\left", ""), "\\right", "") + "}",
          "\\boxed{" + stretched + "}",
          "\\boxed{" + tight + "}",
          named ? "\\boxed{\\displaystyle " + gold + "}" : "\\boxed{x = " + gold + "}",
          "\\boxed{" + With(With(gold, "pmatrix", "bmatrix"), "\\mbox", "\\text") + "}",
          "\\boxed{\\,{" + gold + "}\\;}",
          "<think>Is it \\boxed{12345}? No.</think>\nIt is $\\boxed{" + gold + "}$"};
}

TEST(MathSharedTest, Math500GoldsInTwentyVariants) {
  SKIP_WITHOUT_SHARED(path, "data/benchmarks/math500/test.jsonl");
  const auto grader = MakeGrader("math");
  ASSERT_OK(grader);
  simdjson::dom::parser parser;
  simdjson::dom::document_stream rows = parser.load_many(path);
  int graded = 0;
  std::vector<std::string> golds;
  for (auto row : rows) {
    golds.emplace_back(std::string_view(row["answer"]));
    const std::string& gold = golds.back();
    const std::vector<std::string> variants = Variants(gold);
    ASSERT_EQ(variants.size(), 20);
    for (const std::string& text : variants) {
      const Grade grade = (*grader)->GradeText(text, {gold, {}});
      EXPECT_EQ(grade.outcome, Outcome::kCorrect)
          << gold << " was written " << text << " and read as " << grade.answer << " not " << grade.gold;
      ++graded;
    }
    // The worked solution that comes with it ends in the same answer.
    EXPECT_EQ((*grader)->GradeText(std::string_view(row["solution"]), {gold, {}}).outcome, Outcome::kCorrect) << gold;
  }
  EXPECT_EQ(graded, 500 * 20);
  // No two different answers are taken for one: each gold against the one before, where their normal forms differ.
  int confused = 0;
  for (size_t k = 1; k < golds.size(); ++k) {
    const Grade grade = (*grader)->GradeText("\\boxed{" + golds[k] + "}", {golds[k - 1], {}});
    if (grade.outcome == Outcome::kCorrect && grade.answer != grade.gold) ++confused;
  }
  EXPECT_EQ(confused, 0);
}

}  // namespace
}  // namespace conclave::grade
