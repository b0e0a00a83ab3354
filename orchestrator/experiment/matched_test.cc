// SPDX-License-Identifier: Apache-2.0
// Worked by hand; the statistics behind it are held against references in tests/golden/statistics_test.cc.
#include "orchestrator/experiment/matched.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

constexpr size_t kItems = 12;

void AddRows(const std::string& arm, double calls, double flops, const std::function<bool(size_t)>& right,
             std::vector<Outcome>* rows) {
  for (size_t i = 0; i < kItems; ++i) {
    Outcome row;
    row.arm = arm, row.id = "q" + std::to_string(i);
    row.kind = right(i) ? OutcomeKind::kCorrect : OutcomeKind::kWrong;
    row.calls = calls, row.flops = flops;
    rows->push_back(row);
  }
}

// A group of five calls and 200 FLOPs that is right on every second question, and a giant asked four times, 100 FLOPs
// each, three of whose answers to every question are right.
struct Example {
  Declaration declaration;
  std::vector<Outcome> rows;
  std::vector<ArmVotes> votes;

  Example() {
    declaration.baselines = {{"group", "rival_curve", "giant", "giant x4", ""}};
    AddRows(
        "group", 5, 200, [](size_t i) { return i % 2 == 0; }, &rows);
    AddRows(
        "giant x4", 4, 400, [](size_t) { return true; }, &rows);
    AddRows(
        "idle", 1, 900, [](size_t) { return false; }, &rows);
    ArmVotes& giant = votes.emplace_back();
    giant.arm = "giant x4", giant.one_member = true;
    for (size_t i = 0; i < kItems; ++i) {
      giant.ids.push_back("q" + std::to_string(i));
      giant.items.push_back({.correct = 3, .wrong = {1}, .no_answer = 0});
    }
  }
  Json Matched() const {
    Json summary = {{"arms", {{{"name", "group"}}, {{"name", "giant x4"}}, {{"name", "idle"}}}}};
    AddMatched(declaration, rows, votes, &summary);
    return summary;
  }
};

const Json* Find(const Json& list, const std::string& unit) {
  for (const Json& entry : list) {
    if (entry["unit"] == unit) return &entry;
  }
  return nullptr;
}

TEST(Matched, InEachUnitAtTheArmsOwnCost) {
  const Json summary = Example().Matched();
  const Json* flops = Find(summary["matched"], "flops");
  ASSERT_NE(flops, nullptr);
  EXPECT_EQ((*flops)["arm"], "group");
  EXPECT_EQ((*flops)["against"], "giant x4");
  EXPECT_EQ((*flops)["primary"], true);
  EXPECT_EQ((*flops)["cost"], 200.0);
  EXPECT_EQ((*flops)["curve_cost"], Json({100.0, 400.0}));
  // 200 FLOPs are two answers: maj@2 of three right of four is 1/2 + 1/2 of a tie's half = 3/4.
  EXPECT_NEAR((*flops)["votes"].get<double>(), 2, 1e-9);
  EXPECT_NEAR((*flops)["accuracy"].get<double>(), 0.75, 1e-9);
  EXPECT_NEAR((*flops)["difference"].get<double>(), 0.5 - 0.75, 1e-9);
  EXPECT_TRUE((*flops)["ci95"].is_array());
  EXPECT_THAT((*flops)["how"].get<std::string>(), HasSubstr("as 2 answers of giant x4"));
  // Five calls are more than there are: said, not extrapolated.
  const Json* calls = Find(summary["matched"], "calls");
  ASSERT_NE(calls, nullptr);
  EXPECT_EQ((*calls)["range"], "above");
  EXPECT_TRUE((*calls)["difference"].is_null());
  EXPECT_TRUE((*calls)["ci95"].is_null());
  EXPECT_EQ((*calls)["primary"], false);
  EXPECT_THAT((*calls)["how"].get<std::string>(), HasSubstr("out of range"));
  EXPECT_EQ(Find(summary["matched"], "weight_bytes"), nullptr) << "nobody knows them";
}

TEST(Matched, SecondsAreThoseOfTheSlowestOfSoMany) {
  Example run;
  for (Outcome& row : run.rows) row.seconds = row.arm == "group" ? 3 : 4;
  run.votes[0].seconds.assign(kItems, {1, 2, 3, 4});
  const Json summary = run.Matched();
  const Json* seconds = Find(summary["matched"], "critical_seconds");
  ASSERT_NE(seconds, nullptr);
  // The slowest of one, two, three, four of 1, 2, 3, 4: 2.5, 10/3, 3.75, 4.
  EXPECT_NEAR((*seconds)["curve_cost"][0].get<double>(), 2.5, 1e-9);
  EXPECT_NEAR((*seconds)["curve_cost"][1].get<double>(), 4, 1e-9);
  EXPECT_GT((*seconds)["votes"].get<double>(), 1);
  EXPECT_LT((*seconds)["votes"].get<double>(), 2);
}

TEST(Matched, ADeclaredContrastWithTheVotesOfOneMemberIsAPairToo) {
  Example run;
  run.declaration.baselines.clear();
  EXPECT_TRUE(run.Matched()["matched"].empty());
  run.declaration.contrasts = {{"group", "giant x4", true, 0.03}};
  EXPECT_NE(Find(run.Matched()["matched"], "flops"), nullptr);
  run.votes[0].one_member = false;
  EXPECT_TRUE(run.Matched()["matched"].empty());
}

TEST(Matched, AnArmThatAlsoTalksIsNoCurve) {
  Example run;
  for (Outcome& row : run.rows) row.calls *= 2;
  EXPECT_TRUE(run.Matched()["matched"].empty());
}

TEST(Matched, CurvesEndWhereTheVotesDo) {
  EXPECT_EQ(CurveSizes(3), (std::vector<size_t>{1, 2, 3}));
  EXPECT_EQ(CurveSizes(64).back(), 64u);
  EXPECT_TRUE(CurveSizes(0).empty());
}

TEST(Matched, OnlyItemsThatBothHave) {
  Example run;
  std::erase_if(run.rows, [](const Outcome& row) { return row.arm == "group" && row.id == "q0"; });
  EXPECT_EQ((*Find(run.Matched()["matched"], "flops"))["n"], kItems - 1);
}

TEST(Frontier, TheDearAndBadIsNotOnIt) {
  const Json summary = Example().Matched();
  ASSERT_EQ(summary["frontier"].size(), 3u);
  EXPECT_EQ(summary["frontier"][0]["arm"], "group");
  EXPECT_EQ(summary["frontier"][0]["on"]["flops"], true);
  EXPECT_EQ(summary["frontier"][1]["on"]["flops"], true);
  EXPECT_EQ(summary["frontier"][2]["on"]["flops"], false);
  EXPECT_EQ(summary["frontier"][2]["probability"]["flops"], 0.0);
  // But for draws in which the cheaper group is right on all twelve, 2^-12 of them.
  EXPECT_NEAR(summary["frontier"][1]["probability"]["flops"].get<double>(), 1 - 1.0 / 4096, 0.001);
  EXPECT_FALSE(summary["frontier"][0]["on"].contains("weight_bytes"));
}

}  // namespace
}  // namespace conclave::experiment
