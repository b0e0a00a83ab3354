// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/pages.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/file.h"
#include "orchestrator/experiment/report/call_pages.h"
#include "orchestrator/experiment/report/html.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::report {
namespace {

using experiment::Outcome;
using experiment::OutcomeKind;
using ::testing::HasSubstr;

Outcome Row(const std::string& arm, const std::string& id, OutcomeKind kind, const std::string& answer) {
  Outcome row;
  row.arm = arm, row.id = id, row.kind = kind, row.answer = answer, row.gold = "4";
  return row;
}

// What a page file hands to the page.
Json Taken(const std::string& path) {
  const std::string script = ReadFile(path).value();
  const size_t begin = script.find(',') + 1, end = script.rfind(");");
  return Json::parse(script.substr(begin, end - begin));
}

TEST(Pages, OneCharacterPerOutcomeAndFlagsByHand) {
  testing::TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir.Path("items.jsonl"),
                                "{\"id\":\"q1\",\"question\":\"2+2?\",\"answer\":\"4\"}\n{\"id\":\"q2\",\"question\":"
                                "\"</script>\",\"answer\":\"3\"}\n"));
  ASSERT_OK(WriteFileAtomically(
      dir.Path("votes.jsonl"),
      "{\"arm\":\"a\",\"id\":\"q2\",\"replicate\":0,\"votes\":[{\"member\":\"m\",\"sample\":0,\"outcome\":\"correct\","
      "\"class\":\"4\",\"flops\":1}],\"stages\":[]}\n"));
  ASSERT_OK(WriteFileAtomically(
      dir.Path("transcripts.jsonl"),
      "{\"arm\":\"b\",\"id\":\"q2\",\"replicate\":0,\"node\":\"n\",\"member\":\"m\",\"sample\":0,\"text\":\"same\"}\n"
      "{\"arm\":\"a\",\"id\":\"q2\",\"replicate\":0,\"node\":\"n\",\"member\":\"m\",\"sample\":1,\"text\":\"same\","
      "\"answer\":\"4\",\"score\":0.5}\n"));
  const std::vector<Outcome> rows = {
      Row("a", "q1", OutcomeKind::kWrong, "5"), Row("a", "q2", OutcomeKind::kCorrect, "4"),
      Row("b", "q1", OutcomeKind::kTruncated, ""), Row("b", "q2", OutcomeKind::kCorrect, "4"),
      Row("b", "q3", OutcomeKind::kNoAnswer, "")};
  const auto index = WritePages(dir.path(), rows, {"m"});
  ASSERT_OK(index);
  EXPECT_EQ(index->items, 3);
  EXPECT_EQ(index->all_wrong, 2);     // q1 and q3
  EXPECT_EQ(index->all_disagree, 1);  // q1: "5" and none
  EXPECT_EQ(index->split, 0);
  EXPECT_EQ(index->Arm("b", 'x'), "a1=x");
  EXPECT_EQ(index->Arm("nobody", 'x'), "");
  EXPECT_EQ(Both(index->Arm("a", 'c'), index->Member("m", 'x')), "a0=c&m0=x");

  const Json grid = Taken(dir.Path("report_data/grid.js"));
  EXPECT_EQ(grid["codes"], Json({"wc.", "tcn"}));
  EXPECT_EQ(grid["own"], Json({".c."}));
  EXPECT_EQ(grid["ids"], Json({"q1", "q2", "q3"}));
  EXPECT_EQ(grid["calls"], Json({-1, 0, -1}));
  const std::string flags = grid["flags"];
  EXPECT_EQ(flags[0] - '0', kAllWrong | kAllDisagree | kTruncated);
  EXPECT_EQ(flags[1] - '0', 0);
  EXPECT_EQ(flags[2] - '0', kAllWrong | kUnread);

  const Json items = Taken(dir.Path("report_data/items-0.js"));
  EXPECT_EQ(items[1]["q"], "</script>");
  EXPECT_EQ(items[1]["a"][1][0][0], "4");
  const Json calls = Taken(dir.Path("report_data/calls-0.js"))["1"];
  EXPECT_EQ(calls["texts"], Json({"same"}));  // said by two arms, kept once
  EXPECT_EQ(calls["calls"], Json::parse(R"([[1,0,"n","m",0,null,null,0],[0,0,"n","m",1,"4",0.5,0]])"));

  EXPECT_THAT(
      ReadFile(dir.Path("audit.jsonl")).value(),
      HasSubstr(R"({"id":"q1","why":["all_wrong","all_disagree","truncated"],"gold":"4","answers":{"a":"5","b":""}})"));
}

TEST(Pages, APageIsFullAtItsLimit) {
  testing::TempDir dir;
  std::vector<Outcome> rows;
  for (size_t i = 0; i < kItemsPerPage; ++i)
    rows.push_back(Row("a", fmt::format("q{}", i), OutcomeKind::kCorrect, "4"));
  ASSERT_OK(WritePages(dir.path(), rows, {}));
  EXPECT_TRUE(std::filesystem::exists(dir.Path("report_data/items-0.js")));
  EXPECT_FALSE(std::filesystem::exists(dir.Path("report_data/items-1.js")));
  rows.push_back(Row("a", "one more", OutcomeKind::kCorrect, "4"));
  ASSERT_OK(WritePages(dir.path(), rows, {}));
  EXPECT_EQ(Taken(dir.Path("report_data/items-1.js")).size(), 1u);
}

TEST(Pages, TextsAreCutBetweenCharactersAtTheirLimit) {
  EXPECT_EQ(CutText("abcd", 4), "abcd");
  EXPECT_THAT(CutText("abcde", 4), HasSubstr("abcd\n[… cut here"));
  EXPECT_THAT(CutText("ab\xc3\xa9", 3), HasSubstr("ab\n[…"));
}

TEST(CallPages, MoreCallsThanAPageTakesAreCounted) {
  testing::TempDir dir;
  std::string lines;
  for (size_t i = 0; i <= kCallsPerItemMax; ++i) lines += "{\"arm\":\"a\",\"id\":\"q\",\"text\":\"t\"}\n";
  ASSERT_OK(WriteFileAtomically(dir.Path("t.jsonl"), lines));
  ASSERT_OK(WriteCallPages(dir.Path("t.jsonl"), dir.path(), {{"q", 0}}, {{"a", 0}}));
  const Json calls = Taken(dir.Path("calls-0.js"))["0"];
  EXPECT_EQ(calls["calls"].size(), kCallsPerItemMax);
  EXPECT_EQ(calls["left_out"], 1);
  ASSERT_OK(WriteFileAtomically(dir.Path("t.jsonl"), lines + "not json\n"));
  EXPECT_THAT(
      WriteCallPages(dir.Path("t.jsonl"), dir.path(), {{"q", 0}}, {{"a", 0}}),
      testing::StatusIs(absl::StatusCode::kDataLoss, HasSubstr(fmt::format("t.jsonl:{}", kCallsPerItemMax + 2))));
}

}  // namespace
}  // namespace conclave::report
