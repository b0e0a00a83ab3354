// SPDX-License-Identifier: Apache-2.0
// Every statistic of orchestrator/experiment/stats against scipy, statsmodels and brute force, on random and degenerate
// outcomes: statistics.json, which make_statistics.py wrote.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "orchestrator/experiment/stats/curve.h"
#include "orchestrator/experiment/stats/deliberation.h"
#include "orchestrator/experiment/stats/diversity.h"
#include "orchestrator/experiment/stats/estimate.h"
#include "orchestrator/experiment/stats/hypothesis.h"
#include "orchestrator/experiment/stats/votes.h"

namespace conclave::stats {
namespace {

using Json = nlohmann::json;

constexpr double kTolerance = 1e-9;

const Json& Cases(const char* statistic) {
  static const Json all = [] {
    std::ifstream in(std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/statistics.json");
    return Json::parse(in);
  }();
  return all.at(statistic);
}

template <typename T = double>
std::vector<T> List(const Json& json) {
  return json.get<std::vector<T>>();
}

void ExpectNear(std::optional<double> actual, const Json& expected, const char* what) {
  ASSERT_EQ(actual.has_value(), !expected.is_null()) << what;
  if (!actual) return;
  EXPECT_NEAR(*actual, expected.get<double>(), kTolerance) << what;
}

void ExpectNear(const std::optional<Interval>& actual, const Json& expected, const char* what) {
  ASSERT_EQ(actual.has_value(), !expected.is_null()) << what;
  if (!actual) return;
  EXPECT_NEAR(actual->lo, expected[0].get<double>(), kTolerance) << what;
  EXPECT_NEAR(actual->hi, expected[1].get<double>(), kTolerance) << what;
}

TEST(Statistics, MeansPlainAndClustered) {
  for (const Json& c : Cases("means")) {
    const auto x = List(c["x"]);
    const auto clusters = List<uint32_t>(c["clusters"]);
    const Estimate plain = Mean(x);
    EXPECT_NEAR(plain.mean, c["mean"].get<double>(), kTolerance);
    ExpectNear(plain.se, c["se"], "se");
    ExpectNear(plain.ci, c["ci"], "ci");
    const Estimate clustered = Mean(x, clusters);
    ExpectNear(clustered.se, c["clustered_se"], "clustered se");
    ExpectNear(clustered.ci, c["clustered_ci"], "clustered ci");
    ExpectNear(RateInterval(clustered), c["rate"], "rate");
    ExpectNear(IntraclassCorrelation(x, clusters), c["icc"], "icc");
    const Interval rate = RateInterval(plain).value_or(Interval{0, 1});
    const Interval cut = Within(plain, 0, 1).ci.value_or(Interval{0, 1});
    for (const Interval& interval : {rate, cut}) {
      EXPECT_TRUE(interval.lo >= 0 && interval.hi <= 1 && interval.lo <= interval.hi) << interval.lo << interval.hi;
    }
  }
}

TEST(Statistics, Rates) {
  for (const Json& c : Cases("rates")) {
    ExpectNear(Wilson(c["x"], c["n"]), c["wilson"], "wilson");
    ExpectNear(ClopperPearson(c["x"], c["n"]), c["exact"], "exact");
  }
}

TEST(Statistics, Strata) {
  for (const Json& c : Cases("strata")) {
    const StratifiedEstimate e = StratifiedMean(List(c["x"]), List<uint32_t>(c["strata"]));
    EXPECT_NEAR(e.micro.mean, c["micro"][0].get<double>(), kTolerance);
    ExpectNear(e.micro.se, c["micro"][1], "micro");
    EXPECT_NEAR(e.macro.mean, c["macro"][0].get<double>(), kTolerance);
    ExpectNear(e.macro.se, c["macro"][1], "macro");
  }
}

TEST(Statistics, Pairs) {
  for (const Json& c : Cases("pairs")) {
    const auto a = List<uint8_t>(c["a"]), b = List<uint8_t>(c["b"]);
    const PairedCounts counts = CountPairs(a, b);
    EXPECT_EQ(counts.a_only, c["a_only"]);
    EXPECT_EQ(counts.b_only, c["b_only"]);
    const McNemarResult p = McNemar(counts.a_only, counts.b_only);
    ExpectNear(p.p_exact, c["exact"], "exact");
    ExpectNear(p.p_mid, c["mid"], "mid-p");
    const PairedDifference d = Difference(List(c["a"]), List(c["b"]));
    ExpectNear(d.difference.se, c["se"], "se");
    ExpectNear(d.correlation, c["correlation"], "correlation");
    const auto tost = Equivalence(d.difference, 0.1);
    ASSERT_EQ(tost.has_value(), !c["tost"].is_null());
    if (!tost) continue;
    ExpectNear(tost->p_lower, c["tost"][0], "against the lower margin");
    ExpectNear(tost->p_upper, c["tost"][1], "against the upper margin");
  }
}

TEST(Statistics, SignFlips) {
  for (const Json& c : Cases("sign_flips")) {
    const SignFlipResult result = SignFlip(List(c["d"]), List<uint32_t>(c["clusters"]), 1);
    EXPECT_TRUE(result.exact);
    ExpectNear(result.p, c["p"], "p");
    ExpectNear(result.p_mid, c["mid"], "mid-p");
  }
}

TEST(Statistics, Corrections) {
  for (const Json& c : Cases("corrections")) {
    const auto p = List(c["p"]);
    for (size_t i = 0; i < p.size(); ++i) {
      ExpectNear(Holm(p)[i], c["holm"][i], "holm");
      ExpectNear(BenjaminiHochberg(p)[i], c["bh"][i], "bh");
    }
  }
}

TEST(Statistics, PowerAndMinimumDetectable) {
  for (const Json& c : Cases("power")) {
    const double variance = c["variance"], alpha = c["alpha"];
    const size_t n = c["n"];
    ExpectNear(MinimumDetectable(variance, n, alpha, c["power"]), c["mde"], "mde");
    EXPECT_NEAR(QuestionsNeeded(variance, c["mde"], alpha, c["power"]), static_cast<double>(n), 1e-6);
    const double se = std::sqrt(variance / static_cast<double>(n));
    const std::vector<double> at = {0, 0.01, 0.05};
    for (size_t i = 0; i < at.size(); ++i) ExpectNear(Power(at[i], se, alpha), c["power_at"][i], "power");
  }
}

TEST(Statistics, Votes) {
  for (const Json& c : Cases("votes")) {
    const VoteCounts votes{c["right"], List<uint32_t>(c["wrong"]), c["none"]};
    const auto n = static_cast<size_t>(votes.total());
    for (size_t k = 1; k <= n; ++k) {
      ExpectNear(MajorityAtK(votes, k), c["maj"][k - 1], "maj@k");
      ExpectNear(PassAtK(n, votes.correct, k), c["pass"][k - 1], "pass@k");
      ExpectNear(PassAllK(n, votes.correct, k), c["pass_all"][k - 1], "pass^k");
    }
  }
}

TEST(Statistics, Groups) {
  for (const Json& c : Cases("groups")) {
    const size_t members = c["members"];
    const auto answers = List<int32_t>(c["answers"]);
    std::vector<uint8_t> right;
    for (const int32_t a : answers) right.push_back(a == 0 ? 1 : 0);
    const GroupOutcomes outcomes{members, right, answers};
    const GroupDiversity d = Diversity(outcomes);
    for (size_t i = 0; i < d.pairs.size(); ++i) {
      ExpectNear(d.pairs[i].phi, c["pairs"][i]["phi"], "phi");
      ExpectNear(d.pairs[i].yule_q, c["pairs"][i]["q"], "q");
      ExpectNear(d.pairs[i].same_wrong, c["pairs"][i]["same_wrong"], "same wrong");
      ExpectNear(d.pairs[i].double_fault, c["pairs"][i]["double_fault"], "double fault");
    }
    ExpectNear(d.oracle, c["oracle"], "oracle");
    ExpectNear(d.mean_error_correlation, c["mean_phi"], "mean phi");
    ExpectNear(d.effective_votes, c["effective"], "effective votes");
    ExpectNear(IndependentMajority(d.accuracy), c["independent"], "independent majority");
    const std::vector<uint8_t> use(members, 1);
    const std::vector<double> vote = VoteScores(outcomes, use);
    for (size_t i = 0; i < vote.size(); ++i) ExpectNear(vote[i], c["vote"][i], "vote");
    const std::vector<Estimate> values = MemberValues(outcomes);
    for (size_t m = 0; m < members; ++m) {
      ExpectNear(values[m].mean, c["values"][m][0], "value of a member");
      ExpectNear(values[m].se, c["values"][m][1], "its standard error");
    }
  }
}

TEST(Statistics, Verifiers) {
  for (const Json& c : Cases("verifiers")) {
    std::vector<Judgement> judgements;
    for (size_t i = 0; i < c["score"].size(); ++i) {
      const double score = c["score"][i];
      judgements.push_back({score, c["right"][i] == 1, score >= 0.5});
    }
    const VerifierQuality quality = JudgeTheJudge(judgements);
    ExpectNear(quality.true_positive, c["tpr"], "true positives");
    ExpectNear(quality.false_positive, c["fpr"], "false positives");
    ExpectNear(quality.auc, c["auc"], "auc");
    ExpectNear(quality.auc_se, c["se"], "auc se");
    if (!quality.auc) continue;
    // The trapezoids under the curve are the same area.
    double area = 0;
    for (size_t i = 1; i < quality.roc.size(); ++i) {
      const RocPoint &a = quality.roc[i - 1], &b = quality.roc[i];
      area += (b.false_positive - a.false_positive) * (a.true_positive + b.true_positive) / 2;
    }
    EXPECT_NEAR(area, *quality.auc, kTolerance);
    EXPECT_EQ(quality.roc.back().true_positive, 1);
    EXPECT_EQ(quality.roc.back().false_positive, 1);
  }
}

TEST(Statistics, Curves) {
  for (const Json& c : Cases("curves")) {
    std::vector<CurvePoint> curve, points;
    for (size_t i = 0; i < c["cost"].size(); ++i) curve.push_back({c["cost"][i], c["accuracy"][i]});
    for (const Json& point : c["points"]) points.push_back({point[0], point[1]});
    for (size_t i = 0; i < c["at"].size(); ++i) ExpectNear(ReadCurve(curve, c["at"][i]), c["read"][i], "read");
    ExpectNear(AreaUnderCurve(curve, c["range"][0], c["range"][1]), c["area"], "area");
    const std::vector<uint8_t> on = OnFrontier(points);
    for (size_t i = 0; i < on.size(); ++i) EXPECT_EQ(on[i] != 0, c["frontier"][i].get<bool>()) << i;
  }
}

TEST(Statistics, MeanOfTheLargest) {
  for (const Json& c : Cases("largest")) {
    const auto x = List(c["x"]);
    for (size_t k = 1; k <= x.size(); ++k) ExpectNear(MeanLargest(x, k), c["means"][k - 1], "largest");
    EXPECT_FALSE(MeanLargest(x, x.size() + 1));
    EXPECT_FALSE(MeanLargest(x, 0));
  }
}

TEST(Statistics, Noise) {
  for (const Json& c : Cases("noise")) {
    const auto split = SplitNoise(List(c["a"]), c["ka"], List(c["b"]), c["kb"]);
    ASSERT_TRUE(split);
    ExpectNear(split->sampling_a, c["sampling"][0], "sampling a");
    ExpectNear(split->sampling_b, c["sampling"][1], "sampling b");
    ExpectNear(split->between, c["between"], "between");
    const auto budget = BudgetNoise(*split, c["ka"], c["kb"], c["n"]);
    ASSERT_TRUE(budget);
    ExpectNear(budget->variance, c["variance"], "variance");
    EXPECT_NEAR(budget->sampling_share + budget->between_share, 1, kTolerance);
  }
}

}  // namespace
}  // namespace conclave::stats
