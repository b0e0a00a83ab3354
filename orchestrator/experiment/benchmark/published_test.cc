// SPDX-License-Identifier: Apache-2.0
// Benchmarks in the forms they are published in: small files of our own, and the real ones where they are.
#include "orchestrator/experiment/benchmark/published.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/file.h"
#include "orchestrator/experiment/benchmark/item.h"
#include "orchestrator/experiment/benchmark/tables.h"
#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::benchmark {
namespace {

using conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

class PublishedTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, std::string_view text) {
    EXPECT_OK(WriteFileAtomically(dir_.Path(name), text));
    return dir_.Path(name);
  }
  Item One(std::string_view line, const std::string& name = "test.jsonl") {
    const auto items = LoadItems(Write(name, line));
    EXPECT_OK(items);
    return items.ok() && items->size() == 1 ? items->front() : Item{};
  }
  absl::Status Error(std::string_view line) { return LoadItems(Write("bad.jsonl", line)).status(); }
  testing::TempDir dir_;
};

TEST_F(PublishedTest, Math) {
  const Item item = One(R"({"problem":"P?","solution":"S","answer":"\\frac12","subject":"Algebra","unique_id":"t/1"})");
  EXPECT_EQ(item.id, "t/1");
  EXPECT_EQ(item.answer, "\\frac12");
  EXPECT_EQ(item.stratum, "Algebra");
  // MATH itself has its answers in the solutions only.
  const Item boxed =
      One(R"({"problem":"P?","type":"Geometry","solution":"not \\boxed{1}, but \\boxed{\\frac{1}{2}}."})");
  EXPECT_EQ(boxed.answer, "\\frac{1}{2}");
  EXPECT_EQ(boxed.id, "math-test-#0");
  EXPECT_EQ(boxed.stratum, "Geometry");
  EXPECT_EQ(One(R"({"problem":"P?","answer":70,"id":"0"})").answer, "70");  // AIME
  EXPECT_THAT(Error(R"({"problem":"P?","solution":"none"})"), StatusIs(kInvalid, HasSubstr("bad.jsonl:1:")));
}

TEST_F(PublishedTest, Choices) {
  const Item mmlu = One(R"({"subject":"law","idx":3,"question":"Q","choices":["a","b"],"answer":"B"})");
  EXPECT_EQ(mmlu.id, "test-law-3");
  EXPECT_EQ(mmlu.stratum, "law");
  EXPECT_THAT(mmlu.choices, ElementsAre("a", "b"));
  EXPECT_EQ(mmlu.answer, "B");
  const Item pro = One(
      R"({"question_id":70,"question":"Q","options":["a","b","c"],"answer":"C","category":"physics","cot_content":"A: so"})");
  EXPECT_EQ(pro.id, "mmlu-pro-70");
  EXPECT_EQ(pro.stratum, "physics");
  EXPECT_EQ(pro.solution, "A: so");
  const Item arc = One(R"({"id":"x","question":"Q","choices":{"text":["a","b"],"label":["1","2"]},"answerKey":"2"})");
  EXPECT_EQ(arc.answer, "B");  // labels that are numbers become letters
  const Item ai2 = One(
      R"({"id":"y","question":{"stem":"Q","choices":[{"text":"a","label":"A"},{"text":"b","label":"B"}]},"answerKey":"A"})");
  EXPECT_EQ(ai2.question, "Q");
  EXPECT_EQ(ai2.answer, "A");
  EXPECT_THAT(Error(R"({"subject":"law","idx":3,"question":"Q","choices":["a","b"],"answer":"C"})"),
              StatusIs(kInvalid, HasSubstr("names none of the 2 choices")));
  EXPECT_THAT(Error(R"({"id":"x","question":"Q","choices":{"text":["a"],"label":["A"]},"answerKey":"E"})"),
              StatusIs(kInvalid, HasSubstr("labels no choice")));
}

TEST_F(PublishedTest, CodeAndKnights) {
  const Item code = One(
      R"({"task_id":"T/0","prompt":"def f():\n","entry_point":"f","canonical_solution":" return 1","test":"def check(c):\n \"x\""})");
  EXPECT_EQ(code.id, "T/0");
  EXPECT_EQ(code.answer, R"({"prompt":"def f():\n","test":"def check(c):\n \"x\"","entry_point":"f"})");
  const Item knights =
      One(R"({"quiz":"Q","names":["A"],"solution":[true],"solution_text":"A is a knight.","people":2,"index":9})");
  EXPECT_EQ(knights.stratum, "2 people");
  EXPECT_EQ(knights.answer, "A is a knight.");
}

TEST_F(PublishedTest, Tables) {
  std::filesystem::create_directory(dir_.Path("mmlu"));
  Write("mmlu/b_test.csv", "question,choice0,choice1,answer\n\"Is \"\"x\"\", or\ny?\",one,\"two, three\",1\r\n");
  Write("mmlu/a_test.csv", "Which?,p,q,r,s,C\n");  // as first published: no header, letters
  const auto mmlu = LoadItems(dir_.Path("mmlu"));
  ASSERT_OK(mmlu);
  ASSERT_EQ(mmlu->size(), 2u);
  EXPECT_EQ((*mmlu)[0].stratum, "a");
  EXPECT_EQ((*mmlu)[0].answer, "C");
  EXPECT_EQ((*mmlu)[1].question, "Is \"x\", or\ny?");
  EXPECT_THAT((*mmlu)[1].choices, ElementsAre("one", "two, three"));
  EXPECT_EQ((*mmlu)[1].answer, "B");
  const auto game = LoadItems(Write("24.csv", "Rank,Puzzles,AMT (s)\n1,1 1 4 6,4.4\n2,1 1 11 11,4.5\n"));
  ASSERT_OK(game);
  EXPECT_EQ(game->size(), 2u);
  EXPECT_EQ((*game)[1].id, "game24-2");
  EXPECT_EQ((*game)[1].answer, "1 1 11 11");
  const auto bbh = LoadItems(Write("navigate.json", R"({"canary":"c","examples":[{"input":"Q","target":"No"}]})"));
  ASSERT_OK(bbh);
  EXPECT_EQ(bbh->front().stratum, "navigate");
  EXPECT_EQ(bbh->front().answer, "No");

  EXPECT_THAT(LoadItems(Write("x.csv", "a,\"b\n")), StatusIs(kInvalid, HasSubstr("x.csv:1: a quote opens")));
  EXPECT_THAT(LoadItems(Write("x.csv", "a,\"b\"c\n")), StatusIs(kInvalid, HasSubstr("behind a closing quote")));
  EXPECT_THAT(LoadItems(Write("x.csv", "Q,a,b,c,d,E\n")), StatusIs(kInvalid, HasSubstr("x.csv:1:")));
  EXPECT_THAT(LoadItems(Write("x.csv", "Q,a\n")), StatusIs(kInvalid, HasSubstr("2 fields")));
  EXPECT_THAT(LoadItems(Write("x.json", "{}")), StatusIs(kInvalid, HasSubstr("examples")));
  EXPECT_THAT(LoadItems(Write("x.json", "{")), StatusIs(kInvalid, HasSubstr("not JSON")));
  std::filesystem::create_directory(dir_.Path("empty"));
  EXPECT_THAT(LoadItems(dir_.Path("empty")), StatusIs(kInvalid, HasSubstr("no .csv or .json files")));
}

TEST_F(PublishedTest, SplitsAreDisjointAndWhole) {
  std::string lines;
  for (int k = 0; k < 1000; ++k) {
    lines += "{\"id\":" + std::to_string(k) + ",\"question\":\"q" + std::to_string(k) + "\",\"answer\":\"1\"}\n";
  }
  const std::string path = Write("items.jsonl", lines);
  const auto development = LoadItems(path, {.format = "", .limit = 0, .split = Split::kDevelopment});
  const auto test = LoadItems(path, {.format = "", .limit = 0, .split = Split::kTest});
  ASSERT_OK(development);
  ASSERT_OK(test);
  EXPECT_EQ(development->size() + test->size(), 1000u);
  EXPECT_NEAR(static_cast<double>(development->size()), 200, 4 * 12.65);  // four standard deviations of a binomial
  for (const Item& item : *development) EXPECT_EQ(PublishedSplitOf(item.question), Split::kDevelopment);
}

struct Real {
  std::string path;
  size_t items;
  size_t strata;
  std::string grader;
};

// The published files, complete, each gold readable by its grader.
TEST_F(PublishedTest, RealFiles) {
  const std::vector<Real> files = {
      {"aime24/test.jsonl", 30, 1, "math"},
      {"aime25/test.jsonl", 30, 1, "math"},
      {"arc_challenge/test.jsonl", 1172, 1, "choice"},
      {"bbh", 6511, 27, "bbh"},
      {"game24/24.csv", 1362, 1, "game24"},
      {"gsm8k/test.jsonl", 1319, 1, "gsm8k"},
      {"knights_knaves/kk_test.jsonl", 500, 5, "knights_knaves"},
      {"math500/test.jsonl", 500, 7, "math"},
      {"mmlu/mmlu_test.jsonl", 14042, 57, "choice"},
      {"mmlu/test", 14042, 57, "choice"},
      {"mmlu/dev", 285, 57, "choice"},
  };
  for (const Real& file : files) {
    SKIP_WITHOUT_SHARED(path, "data/benchmarks/" + file.path);
    const auto items = LoadItems(path);
    ASSERT_OK(items);
    EXPECT_EQ(items->size(), file.items) << file.path;
    const auto grader = grade::MakeGrader(file.grader);
    ASSERT_OK(grader);
    std::map<std::string, int> strata;
    for (const Item& item : *items) {
      ++strata[item.stratum];
      EXPECT_NE((*grader)->NormalGold({item.answer, item.choices}), std::nullopt) << item.id << ": " << item.answer;
    }
    EXPECT_EQ(strata.size(), file.strata) << file.path;
  }
}

TEST_F(PublishedTest, RealHumanEval) {
  SKIP_WITHOUT_SHARED(path, "data/benchmarks/humaneval/HumanEval.jsonl.gz");
  const auto items = LoadItems(path);
  ASSERT_OK(items);
  EXPECT_EQ(items->size(), 164u);
  EXPECT_EQ(items->front().id, "HumanEval/0");
  EXPECT_THAT(items->front().answer,
              AllOf(HasSubstr("\"entry_point\":\"has_close_elements\""), HasSubstr("def check")));
}

// The two forms of MMLU ask the same questions.
TEST_F(PublishedTest, RealMmluFormsAgree) {
  SKIP_WITHOUT_SHARED(lines, "data/benchmarks/mmlu/mmlu_test.jsonl");
  SKIP_WITHOUT_SHARED(tables, "data/benchmarks/mmlu/test");
  const auto a = LoadItems(lines);
  const auto b = LoadItems(tables);
  ASSERT_OK(a);
  ASSERT_OK(b);
  std::map<std::pair<std::string, std::string>, std::string> answers;
  for (const Item& item : *a) answers[{item.stratum, item.question + "|" + item.choices[0]}] = item.answer;
  size_t same = 0;
  for (const Item& item : *b) {
    const auto found = answers.find({item.stratum, item.question + "|" + item.choices[0]});
    if (found != answers.end() && found->second == item.answer) ++same;
  }
  EXPECT_GE(same, b->size() * 99 / 100);  // a few questions differ in white space or are asked twice
}

}  // namespace
}  // namespace conclave::benchmark
