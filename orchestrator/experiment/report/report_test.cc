// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "orchestrator/experiment/report/csv.h"
#include "orchestrator/experiment/report/svg.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::report {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Json Summary() {
  return Json::parse(R"({
    "design": {"name": "dense-or-moe", "question": "Is it?", "replicates": 1, "seed": 7, "selection_rule": "all under 35B"},
    "benchmark": {"name": "gsm8k", "n": 100, "grader": "gsm8k"},
    "arms": [
      {"name": "group", "n": 100, "accuracy": 0.9, "se": 0.03, "ci95": [0.84, 0.96], "outcomes": {"correct": 90, "wrong": 10},
       "cost": {"calls": 6, "output_tokens": 900, "flops": 5.4e13, "estimated": true}},
      {"name": "moe", "n": 100, "accuracy": 0.88, "se": 0.033, "ci95": null, "outcomes": {"correct": 88, "wrong": 12}, "cost": {}}],
    "contrasts": [{"a": "group", "b": "moe", "primary": true, "n": 100, "difference": 0.02, "se": 0.02, "ci95": [-0.02, 0.06],
      "a_only": 3, "b_only": 1, "mcnemar_exact": 0.625, "mcnemar_mid_p": 0.375, "p_holm": 0.625, "margin": 0.03,
      "equivalent": false, "noninferior": true, "mde80": 0.056}],
    "group": {"oracle": 0.97, "all_wrong": 0.03, "all_wrong_upper95": 0.085, "mean_error_correlation": 0.3, "effective_votes": 1.5,
      "same_wrong": 0.4, "members": [{"name": "m1", "accuracy": 0.8}, {"name": "m2", "accuracy": 0.7}],
      "pairs": [{"a": "m1", "b": "m2", "phi": 0.31, "same_wrong": 0.42}]},
    "curves": [{"arm": "group", "points": [{"samples": 1, "cost": 1e12, "accuracy": 0.8}, {"samples": 3, "cost": 3e12, "accuracy": 0.85}]}]
  })");
}

TEST(Html, EscapesEverythingAModelCouldWrite) {
  EXPECT_EQ(Escape("<script>&\"'"), "&lt;script&gt;&amp;&quot;&#39;");
  EXPECT_EQ(Escape("a\x01"
                   "b\xff\xc3\xa9"),
            "a b\xEF\xBF\xBD\xc3\xa9");
  EXPECT_EQ(Escape("\xed\xa0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate is not UTF-8
}

TEST(Html, NumbersAsAPaperPrintsThem) {
  EXPECT_EQ(Percent(0.87491), "87.5");
  EXPECT_EQ(Percent(Json()), "–");
  EXPECT_EQ(SignedPercent(-0.0234), "−2.3");
  EXPECT_EQ(WithMinus("-0.13"), "−0.13");
  EXPECT_EQ(WithMinus("1e-05"), "1e-05");
  EXPECT_EQ(PValue(0.0004), "&lt;0.001");
  EXPECT_EQ(Count(57398), "57,398");
  EXPECT_EQ(Count(999), "999");
  EXPECT_EQ(Quantity(1234), "1.23 k");
  EXPECT_EQ(Quantity(5.4e13), "54 T");
  EXPECT_EQ(Quantity(999.9), "1.00 k");
}

TEST(Render, HoldsEveryFigureAndTableThatTheDataHave) {
  ReportInput input{Summary(), Json::parse(R"({"seed": 7, "members": [{"sha256": "abc"}]})"), {}};
  input.index.arms = {"group", "moe"}, input.index.members = {"m1", "m2"}, input.index.items = 100;
  input.summary["flows"] = Json::parse(R"([{"arm": "group", "stages": [{"node": "draft", "runs": 100, "right": 80},
    {"node": "revise", "runs": 100, "right": 90}, {"node": "final", "runs": 100, "right": 90}], "links": [
    {"from": "draft", "to": "revise", "right_right": 78, "right_wrong": 2, "wrong_right": 12, "wrong_wrong": 8},
    {"from": "revise", "to": "final", "right_right": 90, "right_wrong": 0, "wrong_right": 0, "wrong_wrong": 10}]}])");
  const std::string page = Render(input);
  for (const char* label : {"F1", "F3", "F4", "F5", "F6", "T1", "T4", "T5", "T7", "T8", "T9"}) {
    EXPECT_THAT(page, HasSubstr(std::string("<span class=\"label\">") + label)) << label;
  }
  EXPECT_THAT(page, HasSubstr("The data do not tell group and moe apart"));
  EXPECT_THAT(page, HasSubstr("~54 T"));
  EXPECT_THAT(page, HasSubstr("all under 35B"));
  EXPECT_THAT(page, HasSubstr("12 became right and 2 became wrong"));
  EXPECT_THAT(page, HasSubstr("<code>members/0/sha256</code>"));
  // Right only by the group: three items, one click away.
  EXPECT_THAT(page, HasSubstr("data-q=\"a0=c&amp;a1=x\">3</a>"));
  EXPECT_THAT(page, HasSubstr("data-q=\"a1=c&amp;a0=x\">1</a>"));
  EXPECT_THAT(page, HasSubstr("data-q=\"a0=c\">90</a>"));
  EXPECT_THAT(page, HasSubstr("data-q=\"a0=w\">10</a>"));
  EXPECT_THAT(page, HasSubstr("data-q=\"a0=x\">90.00</a>"));
  EXPECT_THAT(page, Not(HasSubstr("http://")));
  EXPECT_THAT(page, Not(HasSubstr("https://")));
}

TEST(Render, EqualCostAblationsAndVerifiersWhereThereAreAny) {
  Json summary = Summary();
  summary["matched"] = Json::parse(R"([
    {"arm": "group", "against": "moe x20", "unit": "flops", "primary": true, "cost": 5.4e13, "range": "inside", "votes": 6.25,
     "accuracy": 0.87, "difference": 0.03, "ci95": [0.01, 0.05]},
    {"arm": "group", "against": "moe x20", "unit": "calls", "primary": false, "cost": 6, "range": "above", "votes": null,
     "accuracy": null, "difference": null, "ci95": null}])");
  summary["baselines"] = Json::parse(
      R"({"added": true, "list": [{"of": "group", "kind": "without_role", "subject": "critic", "arm": "moe"}]})");
  summary["verifiers"] = Json::parse(R"([{"arm": "group", "node": "verify", "true_positive": 0.9,
    "true_positive95": [0.8, 0.95], "false_positive": 0.4, "false_positive95": [0.3, 0.5], "auc": 0.81}])");
  const std::string page = Render({summary, Json(), {}});
  EXPECT_THAT(page,
              HasSubstr("At equal cost (flops), group is more accurate than the vote curve of moe x20: +3.0 points"));
  EXPECT_THAT(page, HasSubstr("out of range: above"));
  EXPECT_THAT(page, HasSubstr("What each role adds"));
  EXPECT_THAT(page, HasSubstr("<td>critic</td>"));
  EXPECT_THAT(page, HasSubstr("<td class=\"r\">0.810</td>"));
  summary["matched"][0]["ci95"] = {-0.01, 0.05};
  EXPECT_THAT(Render({summary, Json(), {}}), HasSubstr("neither shown to be more nor less accurate"));
}

// Cells of the table under a label, row by row.
std::vector<std::string> CellsUnder(const std::string& page, const std::string& label) {
  std::vector<std::string> cells;
  const size_t begin = page.find("<span class=\"label\">" + label + "<");
  const size_t end = page.find("</table>", begin);
  for (size_t at = page.find("<td", begin); at < end; at = page.find("<td", at + 1)) {
    const size_t text = page.find('>', at) + 1;
    cells.push_back(page.substr(text, page.find("</td>", text) - text));
  }
  return cells;
}

// The role costs 40,000 GFLOP per question and adds two points: half a ten-thousandth of a point for each.
TEST(Render, WhatARoleAddsIsWithItLessWithoutIt) {
  Json summary = Summary();
  summary["arms"][1]["cost"]["flops"] = 1.4e13;
  summary["baselines"] = Json::parse(
      R"({"added": true, "list": [{"of": "group", "kind": "without_role", "subject": "critic", "arm": "moe"}]})");
  EXPECT_THAT(CellsUnder(Render({summary, Json(), {}}), "T3"),
              ElementsAre("group", "critic", "+2.00", "[−2.0, +6.0]", "0.625", "4e+04", "5e-05"));
  summary["arms"][1]["cost"]["flops"] = 6.4e13;  // without it dearer: no price per point
  EXPECT_THAT(CellsUnder(Render({summary, Json(), {}}), "T3"),
              ElementsAre("group", "critic", "+2.00", "[−2.0, +6.0]", "0.625", "−1e+04", "–"));
}

TEST(Render, WhatADesignCanFindIsOfEachContrast) {
  Json summary = Summary();
  summary["contrasts"][0]["power"] = Json::parse(R"({"k_a": 3, "k_b": 1, "between": 0.125, "sampling_a": 0.0625,
    "sampling_b": 0.25, "items_for_1pp": 12345, "samples_for_1pp": null})");
  EXPECT_THAT(CellsUnder(Render({summary, Json(), {}}), "T2"),
              ElementsAre("group − moe", "100", "3, 1", "0.125", "0.062", "0.250", "5.60", "12,345", "impossible"));
  summary["contrasts"][0]["power"]["samples_for_1pp"] = 40;
  EXPECT_THAT(CellsUnder(Render({summary, Json(), {}}), "T2"), Contains("40"));
  for (const char* unknown : {"between", "sampling_a", "sampling_b"}) summary["contrasts"][0]["power"].erase(unknown);
  EXPECT_THAT(CellsUnder(Render({summary, Json(), {}}), "T2"),
              ElementsAre("group − moe", "100", "3, 1", "–", "–", "–", "5.60", "12,345", "–"));
  EXPECT_THAT(Render({Summary(), Json(), {}}), Not(HasSubstr(">T2<")));
}

TEST(Render, TextOfAModelIsNeverMarkup) {
  Json summary = Summary();
  summary["arms"][0]["name"] = "<script>alert(1)</script>";
  summary["contrasts"][0]["a"] = "<img src=x>";
  summary["warnings"] = {"<b>warned</b>"};
  const std::string page = Render({summary, Json::parse(R"({"<i>": "</style>"})"), {}});
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(page, Not(HasSubstr("<img")));
  EXPECT_THAT(page, Not(HasSubstr("<b>warned")));
  EXPECT_THAT(page, HasSubstr("&lt;/style&gt;"));
}

TEST(Render, SurvivesASummaryOfNothing) {
  EXPECT_THAT(Render({Json::object(), Json(), {}}), HasSubstr("</html>"));
  EXPECT_THAT(Render({Json::array(), Json(), {}}), HasSubstr("</html>"));
}

TEST(Report, IsWrittenWithItsDataBesideIt) {
  testing::TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir.Path("summary.json"), Summary().dump()));
  ASSERT_OK(WriteFileAtomically(dir.Path("outcomes.jsonl"),
                                "{\"arm\":\"group\",\"id\":\"q1\",\"outcome\":\"correct\",\"answer\":\"4\"}\n"
                                "{\"arm\":\"moe\",\"id\":\"q1\",\"outcome\":\"wrong\",\"answer\":\"5\"}\n"));
  const auto path = WriteReport(dir.path());
  ASSERT_OK(path);
  const std::string page = ReadFile(*path).value();
  EXPECT_THAT(page, HasSubstr(">arms disagree · 1</button>"));
  EXPECT_THAT(ReadFile(dir.Path("report_data/grid.js")).value(), HasSubstr("\"codes\":[\"c\",\"w\"]"));
  EXPECT_THAT(ReadFile(dir.Path("summary.txt")).value(), HasSubstr("do not tell group and moe apart"));
  EXPECT_THAT(ReadFile(dir.Path("arms.csv")).value(), HasSubstr("\r\ngroup,100,0.9,0.03,0.84,0.96,90,10,"));
  EXPECT_THAT(ReadFile(dir.Path("contrasts.csv")).value(), HasSubstr("\r\ngroup,moe,true,100,,0.02,0.02,-0.02,0.06,"));
  EXPECT_THAT(ReadFile(dir.Path("curves.csv")).value(), HasSubstr("\r\ngroup,3,3000000000000.0,0.85,"));

  ASSERT_OK(WriteFileAtomically(dir.Path("outcomes.jsonl"), "{\"arm\":\"x\"}\n"));
  EXPECT_THAT(WriteReport(dir.path()),
              testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("outcomes.jsonl:1")));
}

TEST(Csv, QuotesWhatNeedsIt) {
  Json summary = Summary();
  summary["arms"][0]["name"] = "a \"b\", c";
  EXPECT_THAT(ArmsCsv(summary), HasSubstr("\r\n\"a \"\"b\"\", c\",100,"));
}

TEST(Svg, SurvivesDegenerateData) {
  EXPECT_THAT(ForestSvg({}), HasSubstr("</svg>"));
  EXPECT_THAT(LineSvg({"x", "y"}, {}), HasSubstr("</svg>"));
  EXPECT_THAT(LineSvg({"x", "y", true}, {{"s", {{0, 0.5}, {1, 0.5}}, {}, true}}), HasSubstr("</svg>"));
  EXPECT_THAT(HeatMapSvg({}), HasSubstr("</svg>"));
  EXPECT_THAT(FlowSvg({}, {}), HasSubstr("</svg>"));
  EXPECT_THAT(FlowSvg({{"one", "", 0, 0}}, {}), HasSubstr("</svg>"));
  for (const double width : {kNarrow, kWide}) EXPECT_THAT(ForestSvg({{"x", 0.1, {}}}, width), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace conclave::report
