// SPDX-License-Identifier: Apache-2.0
// No sentence may claim more than the intervals and tests allow.
#include "orchestrator/experiment/report/words.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Json Contrast(double difference, double lo, double hi, double p) {
  return {{"a", "group"},         {"b", "moe"},         {"primary", true}, {"n", 100},       {"difference", difference},
          {"ci95", {lo, hi}},     {"mcnemar_exact", p}, {"p_holm", p},     {"margin", 0.03}, {"equivalent", false},
          {"noninferior", false}, {"mde80", 0.05}};
}

Json Summary(const Json& contrast) {
  return {{"arms",
           {{{"name", "group"}, {"accuracy", 0.9}, {"cost", {{"flops", 6e12}, {"estimated", true}}}},
            {{"name", "moe"}, {"accuracy", 0.88}, {"cost", {{"flops", 2e12}}}}}},
          {"contrasts", {contrast}}};
}

std::string Said(const Json& summary) {
  std::string out;
  for (const std::string& sentence : SummaryInWords(summary)) out += sentence + "\n";
  return out;
}

TEST(Words, ClaimADifferenceOnlyWhereIntervalAndTestAgree) {
  EXPECT_THAT(Said(Summary(Contrast(0.02, -0.02, 0.06, 0.6))), HasSubstr("The data do not tell group and moe apart"));
  EXPECT_THAT(Said(Summary(Contrast(0.04, 0.01, 0.07, 0.01))), HasSubstr("group is more accurate than moe"));
  EXPECT_THAT(Said(Summary(Contrast(-0.04, -0.07, -0.01, 0.01))), HasSubstr("group is less accurate than moe"));
  // The interval excludes zero, the exact test does not reject.
  const std::string border = Said(Summary(Contrast(0.03, 0.001, 0.06, 0.052)));
  EXPECT_THAT(border, HasSubstr("on the border"));
  EXPECT_THAT(border, Not(HasSubstr("group is more accurate")));
  // No interval, no claim, whatever the p-value.
  Json blind = Contrast(0.5, 0, 0, 0.0001);
  blind["ci95"] = nullptr;
  EXPECT_THAT(Said(Summary(blind)), HasSubstr("do not tell"));
}

TEST(Words, AMissedDifferenceIsNoEquivalence) {
  const std::string said = Said(Summary(Contrast(0.0, -0.05, 0.05, 1)));
  EXPECT_THAT(said, HasSubstr("Neither equivalence nor non-inferiority within 3.0 points is shown"));
  EXPECT_THAT(said, HasSubstr("below 5.0 points would usually have been missed"));
  Json same = Contrast(0.0, -0.02, 0.02, 1);
  same["equivalent"] = same["noninferior"] = true;
  EXPECT_THAT(Said(Summary(same)), HasSubstr("equivalent within the declared margin of 3.0 points"));
}

TEST(Words, CostIsARatioAndSaysWhenItIsEstimated) {
  EXPECT_THAT(Said(Summary(Contrast(0, -1, 1, 1))),
              HasSubstr("A question costs group 3 times the floating-point work that it costs moe (estimated"));
}

TEST(Words, OtherContrastsCountAfterHolmOnly) {
  Json summary = Summary(Contrast(0.04, 0.01, 0.07, 0.01));
  Json second = Contrast(0.05, 0.01, 0.09, 0.02);
  second["primary"] = false, second["b"] = "other", second["p_holm"] = 0.06;
  summary["contrasts"].push_back(second);
  EXPECT_THAT(Said(summary),
              HasSubstr("Of 1 other contrast, 0 show a difference after Holm's correction; 1 stays open."));
  summary["contrasts"][1]["p_holm"] = 0.04;
  EXPECT_THAT(Said(summary),
              HasSubstr("1 shows a difference after Holm's correction: group over other (+5.0 points)."));
}

TEST(Claims, HaveThreeVerdictsEach) {
  const auto verdicts = [](const Json& contrast) {
    std::string out;
    for (const Claim& claim : Claims(Summary(contrast))) out += fmt::format("{} ", VerdictName(claim.verdict));
    return out;
  };
  EXPECT_EQ(verdicts(Contrast(0.0, -0.04, 0.04, 1)), "undecided undecided undecided ");
  EXPECT_EQ(verdicts(Contrast(-0.08, -0.10, -0.06, 0.001)), "contradicted contradicted contradicted ");
  Json better = Contrast(0.05, 0.02, 0.08, 0.001);
  better["noninferior"] = true;
  EXPECT_EQ(verdicts(better), "supported supported undecided ");
}

TEST(Words, SurviveASummaryOfNothing) {
  EXPECT_TRUE(SummaryInWords(Json::object()).empty());
  EXPECT_TRUE(SummaryInWords(Json()).empty());
  EXPECT_TRUE(Claims(Json()).empty());
}

}  // namespace
}  // namespace conclave::report
