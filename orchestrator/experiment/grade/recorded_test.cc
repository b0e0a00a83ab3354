// SPDX-License-Identifier: Apache-2.0
// The gsm8k grader against 57,398 graded answers of 44 models (../shared/data/recorded). The recorded verdicts are
// another harness's, not the truth: every disagreement is listed in testdata/recorded_disagreements.tsv with who is
// right and why, and that list must be exact.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "common/file.h"
#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::grade {
namespace {

constexpr int kAnswers = 57398;

std::unordered_map<std::string, std::string> Golds(const std::string& path) {
  std::unordered_map<std::string, std::string> golds;
  simdjson::dom::parser parser;
  simdjson::dom::document_stream items = parser.load_many(path);
  for (auto item : items) {
    golds[std::string(std::string_view(item["id"]))] = std::string(std::string_view(item["gold"]));
  }
  return golds;
}

// "id<TAB>model<TAB>our verdict" of each line; comments and the remaining columns are for people.
std::set<std::string> ListedDisagreements() {
  std::set<std::string> listed;
  const auto file = ReadFile(CONCLAVE_SOURCE_DIR "/orchestrator/experiment/grade/testdata/recorded_disagreements.tsv");
  if (!file.ok()) return listed;
  for (size_t begin = 0; begin < file->size();) {
    const std::string line = file->substr(begin, file->find('\n', begin) - begin);
    begin += line.size() + 1;
    if (line.empty() || line[0] == '#') continue;
    size_t end = 0;
    for (int column = 0; column < 3; ++column) end = line.find('\t', end + 1);
    listed.insert(line.substr(0, end));
  }
  return listed;
}

class RecordedAnswersTest : public ::testing::Test {
 protected:
  // Calls fn(row, gold) for every recorded answer.
  template <typename Fn>
  void ForEach(const std::string& outputs, const std::string& items, Fn fn) {
    const std::unordered_map<std::string, std::string> golds = Golds(items);
    const auto text = ReadMaybeGzip(outputs);
    ASSERT_OK(text);
    const simdjson::padded_string padded(*text);
    simdjson::dom::parser parser;
    simdjson::dom::document_stream rows = parser.parse_many(padded, size_t{1} << 20);
    for (auto row : rows) fn(row, golds.at(std::string(std::string_view(row["id"]))));
  }
};

TEST_F(RecordedAnswersTest, VerdictsAgreeAndEveryDisagreementIsListed) {
  SKIP_WITHOUT_SHARED(outputs, "data/recorded/gsm_outputs.jsonl.gz");
  SKIP_WITHOUT_SHARED(items, "data/recorded/gsm_items.jsonl");
  SKIP_WITHOUT_SHARED(accuracy, "data/recorded/gsm_accuracy.json");
  const auto grader = MakeGrader("gsm8k");
  ASSERT_OK(grader);
  int total = 0;
  std::map<std::string, int> correct;
  std::set<std::string> disagreements;
  ForEach(outputs, items, [&](simdjson::simdjson_result<simdjson::dom::element> row, const std::string& gold) {
    const std::string model{std::string_view(row["model"])};
    const bool ours =
        (*grader)->GradeText(std::string_view(row["text"]), {.gold = gold, .choices = {}}).outcome == Outcome::kCorrect;
    ++total;
    correct[model] += ours ? 1 : 0;
    if (ours == bool{row["correct"]}) return;
    disagreements.insert(std::string(std::string_view(row["id"])) + '\t' + model + '\t' + (ours ? "correct" : "wrong"));
  });
  EXPECT_EQ(total, kAnswers);
  EXPECT_LE(disagreements.size(), kAnswers * 2 / 1000);  // agreement of 99.8 % at least
  EXPECT_EQ(disagreements, ListedDisagreements());
  simdjson::dom::parser counts;
  for (auto [model, entry] : simdjson::dom::object(counts.load(accuracy))) {
    const int recorded = static_cast<int>(int64_t{entry["correct"]});
    EXPECT_LE(std::abs(correct[std::string(model)] - recorded), 5) << model;
  }
}

// The recorded short answers alone, without the response around them: the same verdicts but for the few answers whose
// field the recorder could not read.
TEST_F(RecordedAnswersTest, ShortAnswersGetTheSameVerdicts) {
  SKIP_WITHOUT_SHARED(outputs, "data/recorded/gsm_outputs.jsonl.gz");
  SKIP_WITHOUT_SHARED(items, "data/recorded/gsm_items.jsonl");
  const auto grader = MakeGrader("gsm8k");
  ASSERT_OK(grader);
  int total = 0;
  int differ = 0;
  ForEach(outputs, items, [&](simdjson::simdjson_result<simdjson::dom::element> row, const std::string& gold) {
    const std::string_view answer = row["answer"].is_null() ? std::string_view() : std::string_view(row["answer"]);
    const bool ours = (*grader)->GradeAnswer(answer, {.gold = gold, .choices = {}}).outcome == Outcome::kCorrect;
    ++total;
    differ += ours != bool{row["correct"]} ? 1 : 0;
  });
  EXPECT_EQ(total, kAnswers);
  EXPECT_LE(differ, kAnswers * 2 / 1000);
}

}  // namespace
}  // namespace conclave::grade
