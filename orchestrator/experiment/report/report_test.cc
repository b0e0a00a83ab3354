// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "orchestrator/experiment/report/svg.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::report {
namespace {

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
  EXPECT_EQ(PValue(0.0004), "&lt;0.001");
  EXPECT_EQ(Count(57398), "57,398");
  EXPECT_EQ(Count(999), "999");
  EXPECT_EQ(Quantity(1234), "1.23 k");
  EXPECT_EQ(Quantity(5.4e13), "54 T");
  EXPECT_EQ(Quantity(999.9), "1.00 k");
}

TEST(Render, SaysWhatTheDataSayAndWhatNot) {
  const std::string page = Render({Summary(), Json::object(), {}, 0});
  EXPECT_THAT(page, HasSubstr("The data do not separate <b>group</b> from <b>moe</b>"));
  EXPECT_THAT(page, HasSubstr("the first is not worse by more than it"));
  EXPECT_THAT(page, HasSubstr("~54 T"));
  EXPECT_THAT(page, HasSubstr("all under 35B"));

  Json decided = Summary();
  decided["contrasts"][0]["ci95"] = {0.01, 0.06};
  EXPECT_THAT(Render({decided, Json::object(), {}, 0}), HasSubstr("Borderline: "));  // the exact test says 0.625
  decided["contrasts"][0]["mcnemar_exact"] = 0.01;
  decided["contrasts"][0]["equivalent"] = nullptr;  // could not be formed
  EXPECT_THAT(Render({decided, Json::object(), {}, 0}),
              HasSubstr("<b>group</b> is more accurate than <b>moe</b>: +2.00 points"));
}

TEST(Render, AnEmptySummaryIsAPageAllTheSame) {
  EXPECT_THAT(Render({Json::object(), Json::object(), {}, 0}), HasSubstr("</html>"));
}

TEST(Report, FindsTheItemsWhereArmsDisagree) {
  testing::TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir.Path("summary.json"), Summary().dump()));
  ASSERT_OK(WriteFileAtomically(dir.Path("manifest.json"), "{}"));
  ASSERT_OK(WriteFileAtomically(dir.Path("items.jsonl"),
                                "{\"id\":\"q1\",\"question\":\"2+2?\",\"answer\":\"4\"}\n{\"id\":\"q2\",\"question\":"
                                "\"3?\",\"answer\":\"3\"}\n"));
  ASSERT_OK(WriteFileAtomically(
      dir.Path("outcomes.jsonl"),
      "{\"arm\":\"group\",\"id\":\"q1\",\"replicate\":0,\"outcome\":\"correct\",\"answer\":\"4\"}\n"
      "{\"arm\":\"moe\",\"id\":\"q1\",\"replicate\":0,\"outcome\":\"wrong\",\"answer\":\"5\"}\n"
      "{\"arm\":\"group\",\"id\":\"q2\",\"replicate\":0,\"outcome\":\"correct\",\"answer\":\"3\"}\n"
      "{\"arm\":\"moe\",\"id\":\"q2\",\"replicate\":0,\"outcome\":\"correct\",\"answer\":\"3\"}\n"));
  ASSERT_OK(WriteFileAtomically(dir.Path("transcripts.jsonl"),
                                "{\"arm\":\"moe\",\"id\":\"q1\",\"replicate\":0,\"node\":\"answer\",\"member\":\"m\","
                                "\"sample\":0,\"text\":\"it is <b>5</b>\"}\n"));
  const auto path = WriteReport(dir.path());
  ASSERT_OK(path);
  const std::string page = ReadFile(*path).value();
  EXPECT_THAT(page, HasSubstr("2+2?"));
  EXPECT_THAT(page, HasSubstr("it is &lt;b&gt;5&lt;/b&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("q2")));

  ASSERT_OK(WriteFileAtomically(dir.Path("outcomes.jsonl"), "{\"arm\":\"x\"}\nnot json\n"));
  EXPECT_THAT(WriteReport(dir.path()), testing::StatusIs(absl::StatusCode::kDataLoss, HasSubstr("outcomes.jsonl:2")));
}

TEST(Svg, SurvivesDegenerateData) {
  EXPECT_THAT(ForestSvg({}), HasSubstr("</svg>"));
  EXPECT_THAT(LineSvg({"x", "y"}, {}), HasSubstr("</svg>"));
  EXPECT_THAT(LineSvg({"x", "y", true}, {{"s", {{0, 0.5}, {1, 0.5}}, {}, true}}), HasSubstr("</svg>"));
  EXPECT_THAT(HeatMapSvg({}), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace conclave::report
