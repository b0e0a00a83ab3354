// SPDX-License-Identifier: Apache-2.0
// ../shared/workloads/canned.py: worked solutions whose last line is "#### value", made wrong by rule, so that every
// harness must report the same accuracy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdlib>
#include <string>

#include "common/hash.h"
#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::grade {
namespace {

TEST(CannedTest, AccuracyIsExact) {
  SKIP_WITHOUT_SHARED(path, "data/benchmarks/gsm8k/test.jsonl");
  const auto grader = MakeGrader("gsm8k");
  ASSERT_OK(grader);
  simdjson::dom::parser parser;
  simdjson::dom::document_stream rows = parser.load_many(path);
  int n = 0;
  int correct = 0;
  int strict = 0;
  for (auto row : rows) {
    const std::string solution{std::string_view(row["answer"])};
    const size_t hashes = solution.rfind("####");
    ASSERT_NE(hashes, std::string::npos);
    std::string gold = solution.substr(hashes + 5);
    std::erase(gold, ',');
    const bool right = Fnv1a64(std::to_string(n) + "|eval|0") % 100 < 70;
    const std::string value = right ? gold : std::to_string(std::atoll(gold.c_str()) + 1);
    const std::string text = solution.substr(0, hashes) + "#### " + value;
    // The gold is given as the benchmark publishes it: the whole solution.
    const Grade grade = (*grader)->GradeText(text, {.gold = solution, .choices = {}});
    EXPECT_EQ(grade.outcome == Outcome::kCorrect, right) << "item " << n;
    correct += grade.outcome == Outcome::kCorrect ? 1 : 0;
    strict += grade.strict == Outcome::kCorrect ? 1 : 0;
    ++n;
  }
  EXPECT_EQ(n, 1319);
  EXPECT_EQ(correct, 924);  // 924 / 1319 = 0.70053
  EXPECT_EQ(strict, 924);
}

}  // namespace
}  // namespace conclave::grade
