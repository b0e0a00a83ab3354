// SPDX-License-Identifier: Apache-2.0
// Expected values are worked out by hand; distribution functions are tested against scipy in stats/.
#include "orchestrator/experiment/analyse.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::experiment {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

Outcome Row(const std::string& arm, int item, bool right, const std::string& stratum = "", int32_t replicate = 0) {
  Outcome row;
  row.arm = arm, row.id = fmt::format("q{}", item), row.stratum = stratum, row.replicate = replicate;
  row.kind = right ? OutcomeKind::kCorrect : OutcomeKind::kWrong;
  row.seconds = item + 1;
  return row;
}

Declaration AgainstB() {
  Declaration d;
  d.name = "t", d.benchmark = "by hand", d.grader = "exact";
  d.contrasts = {{"a", "b", true, 0.03}};
  return d;
}

RunVotes Votes(const std::string& arm, const std::string& id, const std::vector<std::string>& classes,
               const std::string& right) {
  RunVotes run;
  run.arm = arm, run.id = id;
  for (size_t m = 0; m < classes.size(); ++m) {
    const OutcomeKind kind = classes[m].empty()    ? OutcomeKind::kNoAnswer
                             : classes[m] == right ? OutcomeKind::kCorrect
                                                   : OutcomeKind::kWrong;
    run.votes.push_back({fmt::format("m{}", m), 0, kind, classes[m], 10});
  }
  run.stages = {{"draft", static_cast<int64_t>(classes.size()), OutcomeKind::kWrong, 30}};
  return run;
}

TEST(Votes, AreWrittenAndReadBack) {
  testing::TempDir dir;
  const RunVotes run = Votes("a \"x\"", "q1", {"4", "", "5"}, "4");
  ASSERT_OK(WriteFileAtomically(dir.Path("v.jsonl"), ToJsonLine(run) + "\n"));
  std::vector<RunVotes> read;
  ASSERT_OK(ReadVotes(dir.Path("v.jsonl"), [&](RunVotes r) { read.push_back(std::move(r)); }));
  EXPECT_EQ(read, std::vector<RunVotes>{run});
  const auto bad = [&](const char* line, const char* what) {
    EXPECT_OK(WriteFileAtomically(dir.Path("v.jsonl"), ToJsonLine(run) + "\n" + line + "\n"));
    EXPECT_THAT(ReadVotes(dir.Path("v.jsonl"), [](const RunVotes&) {}),
                testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  bad("[]", "v.jsonl:2: is not a JSON object");
  bad(R"({"arm":"a","id":"q","replicate":0,"votes":[3],"stages":[]})", "\"votes\" holds 3");
  bad(R"({"arm":"a","id":"q","replicate":"0","votes":[],"stages":[]})", "\"replicate\" is missing or no number");
  bad(R"({"arm":"a","id":"q","replicate":0,"votes":[],"stages":[{"node":"n","calls":1,"output_tokens":1,"outcome":"x"}]})",
      "\"outcome\" is \"x\"");
}

TEST(Analyse, StrataPowerLatencyAndStrictness) {
  std::vector<Outcome> rows;
  // Stratum s: a right on 6 of 6 that b misses; stratum t: both right, but for one that only b gets.
  for (int i = 0; i < 12; ++i) {
    rows.push_back(Row("a", i, i != 11, i < 6 ? "s" : "t"));
    rows.back().strict = i < 4 ? OutcomeKind::kCorrect : OutcomeKind::kNoAnswer;
    rows.push_back(Row("b", i, i >= 6, i < 6 ? "s" : "t"));
  }
  const auto summary = Analyse(AgainstB(), rows, Gatherer({"a", "b"}, {}));
  ASSERT_OK(summary);
  const Json& c = (*summary)["contrasts"][0];
  ASSERT_EQ(c["strata"].size(), 2u);
  EXPECT_EQ(c["strata"][0]["name"], "s");
  EXPECT_EQ(c["strata"][0]["difference"], 1.0);
  EXPECT_TRUE(c["strata"][0]["ci95"].is_null());                       // no spread was seen
  EXPECT_NEAR(c["strata"][0]["p"].get<double>(), 1.0 / 64, 1e-12);     // mid-p of 6 against 0: 2/64 - 1/64
  EXPECT_NEAR(c["strata"][0]["p_bh"].get<double>(), 2.0 / 64, 1e-12);  // the smaller of two
  EXPECT_NEAR(c["strata"][1]["p"].get<double>(), 0.5, 1e-12);          // 0 against 1: 1 - 1/2
  EXPECT_NEAR(c["macro"]["difference"].get<double>(), (1.0 - 1.0 / 6) / 2, 1e-12);
  EXPECT_NEAR(c["micro"]["difference"].get<double>(), 5.0 / 12, 1e-12);
  // Six of +1, one of -1, five of 0 about 5/12: Σd² - n mean² over n - 1.
  const double variance = (7 - 12 * (5.0 / 12) * (5.0 / 12)) / 11;
  EXPECT_NEAR(c["power"]["variance"].get<double>(), variance, 1e-12);
  const double z = 1.959963984540054 + 0.8416212335729143;
  EXPECT_EQ(c["power"]["items_for_1pp"].get<double>(), std::ceil(z * z * variance / 1e-4));
  EXPECT_FALSE(c["power"].contains("between"));
  const Json& a = (*summary)["arms"][0];
  EXPECT_EQ(a["latency"]["p50"], 6.5);  // of 1 .. 12
  EXPECT_EQ(a["strict"], Json({{"correct", 4}, {"lenient_only", 7}, {"neither", 1}}));
  EXPECT_FALSE((*summary)["arms"][1].contains("strict"));
}

TEST(Analyse, SamplesSplitTheNoise) {
  std::vector<Outcome> rows;
  for (int i = 0; i < 8; ++i) {
    for (int32_t k = 0; k < 2; ++k) {
      rows.push_back(Row("a", i, (i + k) % 2 == 0, "", k));
      rows.push_back(Row("b", i, i % 2 == 0, "", k));
    }
  }
  Declaration d = AgainstB();
  d.replicates = 2;
  const auto summary = Analyse(d, rows, Gatherer({"a", "b"}, {}));
  ASSERT_OK(summary);
  const Json& power = (*summary)["contrasts"][0]["power"];
  EXPECT_EQ(power["sampling_a"], 0.5);  // p (1 - p) K / (K - 1) = 1/4 · 2
  EXPECT_EQ(power["sampling_b"], 0.0);
  // Var(±1/2) = 2/7, less 1/2 over 2 samples.
  EXPECT_NEAR(power["between"].get<double>(), 2.0 / 7 - 0.25, 1e-12);
  EXPECT_TRUE(power["samples_for_1pp"].is_null());  // eight questions cannot
}

TEST(Analyse, CurvesAndFlowsByHand) {
  Gatherer gatherer({"a"}, {});
  RunVotes first = Votes("a", "q0", {"4", "4", "5"}, "4"), second = Votes("a", "q1", {"4", "6", ""}, "4");
  first.stages.push_back({"revise", 3, OutcomeKind::kCorrect, 60});
  gatherer.Add(0, 0, first, OutcomeKind::kCorrect);
  gatherer.Add(0, 1, second, OutcomeKind::kWrong);
  Declaration d = AgainstB();
  d.contrasts.clear();
  const std::vector<Outcome> rows = {Row("a", 0, true), Row("a", 1, false)};
  const auto summary = Analyse(d, rows, gatherer);
  ASSERT_OK(summary);
  const Json& points = (*summary)["curves"][0]["points"];
  EXPECT_NEAR(points[0]["accuracy"].get<double>(), 0.5, 1e-12);                 // (2/3 + 1/3) / 2
  EXPECT_NEAR(points[1]["any_right"].get<double>(), (1 + 2.0 / 3) / 2, 1e-12);  // of two: 1 - 0/3, 1 - 1/3
  EXPECT_NEAR(points[1]["all_right"].get<double>(), (1.0 / 3 + 0) / 2, 1e-12);
  EXPECT_NEAR(points[2]["independent"].get<double>(), 0.5, 1e-12);
  // Pairs right together: (2·1/(3·2) + 0) / 2 = 1/6, about 1/4, over 1/4.
  EXPECT_NEAR((*summary)["curves"][0]["vote_correlation"].get<double>(), (1.0 / 6 - 0.25) / 0.25, 1e-12);
  EXPECT_EQ((*summary)["flows"], Json::parse(R"([{"arm":"a","stages":[
      {"node":"draft","runs":2,"right":0,"calls":6,"output_tokens":60.0},
      {"node":"revise","runs":1,"right":1,"calls":3,"output_tokens":60.0},
      {"node":"final","runs":2,"right":1,"calls":0,"output_tokens":0.0}],"links":[
      {"from":"draft","to":"final","right_right":0,"right_wrong":0,"wrong_right":0,"wrong_wrong":1},
      {"from":"draft","to":"revise","right_right":0,"right_wrong":0,"wrong_right":1,"wrong_wrong":0},
      {"from":"revise","to":"final","right_right":1,"right_wrong":0,"wrong_right":0,"wrong_wrong":0}]}])"));
  EXPECT_EQ((*summary)["group"]["members"].size(), 3u);
}

TEST(AnalyseDirectory, IsWhatTheDeclarationAndTheRowsSay) {
  testing::TempDir dir;
  std::string outcomes, votes;
  for (int i = 0; i < 6; ++i) {
    for (const char* arm : {"b", "a"}) {
      outcomes += ToJsonLine(Row(arm, i, (i + (arm[0] == 'a')) % 3 != 0)) + "\n";
      votes += ToJsonLine(Votes(arm, fmt::format("q{}", i), {"4", "5"}, "4")) + "\n";
    }
  }
  ASSERT_OK(WriteFileAtomically(dir.Path("outcomes.jsonl"), outcomes));
  ASSERT_OK(WriteFileAtomically(dir.Path("votes.jsonl"), votes));
  Json manifest;
  manifest["declaration"] = ToJson(AgainstB(), {"m1", "m0"});
  ASSERT_OK(WriteFileAtomically(dir.Path("manifest.json"), manifest.dump()));
  ASSERT_OK(AnalyseDirectory(dir.path()));
  const Json summary = Json::parse(ReadFile(dir.Path("summary.json")).value());
  EXPECT_EQ(summary["contrasts"][0]["a"], "a");
  EXPECT_EQ(summary["group"]["members"][0]["name"], "m1");
  EXPECT_EQ(summary["flows"].size(), 2u);

  // Without a manifest: every arm against the last, in the order of the rows.
  ASSERT_OK(WriteFileAtomically(dir.Path("manifest.json"), "{}"));
  ASSERT_OK(AnalyseDirectory(dir.path()));
  EXPECT_EQ(Json::parse(ReadFile(dir.Path("summary.json")).value())["contrasts"][0]["a"], "b");
  manifest["declaration"].erase("seed");
  ASSERT_OK(WriteFileAtomically(dir.Path("manifest.json"), manifest.dump()));
  EXPECT_THAT(AnalyseDirectory(dir.path()), testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("seed")));
}

}  // namespace
}  // namespace conclave::experiment
