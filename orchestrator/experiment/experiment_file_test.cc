// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/experiment_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/file.h"
#include "orchestrator/experiment/benchmark/split.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::experiment {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

constexpr const char* kGood = R"(name: "x"
benchmark { generator { kind: "arithmetic" count: 5 seed: 1 difficulty: 2 } }
fleet_path: "fleet.textproto"
arm { name: "vote" graph: "vote" bind { name: "dense/*" member: "a" member: "b" } }
arm { name: "one" graph: "own.textproto" }
)";

absl::StatusOr<LoadedExperiment> Load(const std::string& text, LoadOptions options = {}) {
  testing::TempDir dir;
  EXPECT_OK(WriteFileAtomically(dir.Path("e.textproto"), text));
  return LoadExperiment(dir.Path("e.textproto"), options);
}

TEST(ExperimentFile, BecomesAPlan) {
  const auto loaded = Load(kGood);
  ASSERT_OK(loaded);
  EXPECT_EQ(loaded->plan.items.size(), 5u);
  ASSERT_EQ(loaded->plan.arms.size(), 2u);
  EXPECT_EQ(loaded->plan.arms[0].request.graph_name(), "vote");
  EXPECT_EQ(loaded->plan.arms[1].request.graph_name(), loaded->directory + "/own.textproto");
  EXPECT_EQ(loaded->plan.arms[0].request.bindings(0).members(1), "b");
  EXPECT_EQ(loaded->fleet_path, loaded->directory + "/fleet.textproto");
  // Undeclared contrasts: every arm against the last, the first of them primary.
  ASSERT_EQ(loaded->plan.declaration.contrasts.size(), 1u);
  EXPECT_EQ(loaded->plan.declaration.contrasts[0].b, "one");
  EXPECT_TRUE(loaded->plan.declaration.contrasts[0].primary);
  EXPECT_EQ(loaded->plan.declaration.contrasts[0].margin, 0.03);
}

TEST(ExperimentFile, GeneratedItemsOfOneSplit) {
  const auto with = [](const std::string& generator) {
    return Load(
        fmt::format("name: \"x\" benchmark {{ generator {{ {} }} }}\nfleet_path: \"f\"\n"
                    "arm {{ name: \"one\" graph: \"single\" }}\n",
                    generator));
  };
  const auto loaded = with("kind: \"steps:3-6\" kind: \"chain:9\" count: 200 split: \"test\"");
  ASSERT_OK(loaded);
  ASSERT_EQ(loaded->plan.items.size(), 200u);
  for (const auto& item : loaded->plan.items) {
    EXPECT_EQ(conclave::benchmark::SplitOf(item.question), conclave::benchmark::Split::kTest) << item.question;
  }
  EXPECT_THAT(with("count: 5 split: \"validation\""),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("split is \"validation\"; train, development")));
}

// A published set's split and worked examples, both by the file.
TEST(ExperimentFile, ExamplesAndSplitOfAPath) {
  testing::TempDir dir;
  std::string lines;
  for (int k = 0; k < 40; ++k) lines += fmt::format("{{\"id\":{0},\"question\":\"{0}+1?\",\"answer\":\"1\"}}\n", k);
  ASSERT_OK(WriteFileAtomically(dir.Path("test.jsonl"), lines));
  ASSERT_OK(WriteFileAtomically(dir.Path("dev.jsonl"), R"({"id":"d","question":"1*1?","answer":"1"})"));
  const auto with = [&](const std::string& benchmark) {
    EXPECT_OK(
        WriteFileAtomically(dir.Path("e.textproto"), fmt::format("name: \"x\" benchmark {{ {} }}\nfleet_path: \"f\"\n"
                                                                 "arm {{ name: \"one\" graph: \"single\" }}\n",
                                                                 benchmark)));
    return LoadExperiment(dir.Path("e.textproto"), {});
  };
  const auto test = with("path: \"test.jsonl\" split: \"test\" examples { path: \"dev.jsonl\" shots: 1 }");
  const auto development = with("path: \"test.jsonl\" split: \"development\"");
  ASSERT_OK(test);
  ASSERT_OK(development);
  EXPECT_EQ(test->plan.items.size() + development->plan.items.size(), 40u);
  EXPECT_GT(test->plan.items.size(), development->plan.items.size());
  for (const auto& item : test->plan.items) {
    EXPECT_THAT(item.question, ::testing::StartsWith("Question: 1*1?\nAnswer: 1\n\nQuestion: "));
  }
  const auto invalid = [&](const char* part) { return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(part)); };
  EXPECT_THAT(with("path: \"test.jsonl\" split: \"train\""), invalid(":1: benchmark split is \"train\""));
  EXPECT_THAT(with("generator { count: 1 } split: \"test\""), invalid("for a path only"));
  EXPECT_THAT(with("generator { count: 1 } examples { path: \"dev.jsonl\" shots: 1 }"), invalid("questions of a path"));
  EXPECT_THAT(with("path: \"test.jsonl\" examples { path: \"test.jsonl\" shots: 1 }"), invalid("from another split"));
}

TEST(ExperimentFile, LimitsAndArmsCanBeNarrowed) {
  const auto loaded = Load(kGood, {2, {"one"}});
  ASSERT_OK(loaded);
  EXPECT_EQ(loaded->plan.items.size(), 2u);
  ASSERT_EQ(loaded->plan.arms.size(), 1u);
  EXPECT_TRUE(loaded->plan.declaration.contrasts.empty());
  EXPECT_THAT(Load(kGood, {0, {"two"}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the file declares vote, one")));
}

TEST(ExperimentFile, NamesEveryMistakeWithItsLine) {
  const auto bad = Load(R"(name: "X y"
benchmark { path: "a.jsonl" grader: "gsm9k" }
fleet_path: "f"
arm { name: "a" graph: "vote" }
arm { name: "a" }
contrast { a: "a" b: "bb" margin: 3 }
replicates: 0
)");
  ASSERT_THAT(bad, StatusIs(absl::StatusCode::kInvalidArgument));
  const std::string text(bad.status().message());
  for (const char* part :
       {"e.textproto:1: name is", ":2: ", "gsm9k", ":5: arm \"a\": another arm", ":5: arm \"a\": graph is missing",
        ":6: contrast names arm \"bb\"", ":6: margin is 3", ":7: replicates is 0"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(ExperimentFile, AnUnknownFieldIsAnError) {
  EXPECT_THAT(Load(fmt::format("{}replicatez: 3\n", kGood)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(":6")));
}

// The live study runs on a fresh clone: its items are generated, its members shipped (fleet_file_test).
TEST(ExperimentFile, TheScaleModelLoads) {
  const auto loaded = LoadExperiment(CONCLAVE_SOURCE_DIR "/graphs/experiments/scale_model.textproto", {});
  ASSERT_OK(loaded);
  EXPECT_EQ(loaded->plan.items.size(), 2000u);
  std::set<std::string> families;
  for (const auto& item : loaded->plan.items) families.insert(item.stratum);
  EXPECT_EQ(families.size(), 19u);
  EXPECT_EQ(loaded->plan.arms.size(), 9u);
}

TEST(ExperimentFile, TheOtherStudiesOfTheScaleModelLoad) {
  for (const char* name : {"scale_training", "scale_votes"}) {
    const std::string path = std::string(CONCLAVE_SOURCE_DIR "/graphs/experiments/") + name + ".textproto";
    EXPECT_OK(LoadExperiment(path, {})) << name;
  }
}

TEST(ExperimentFile, FewerExpertsAreAKnobOfAnArm) {
  const auto loaded = LoadExperiment(CONCLAVE_SOURCE_DIR "/graphs/experiments/expert_top_k.textproto", {});
  ASSERT_OK(loaded);
  ASSERT_EQ(loaded->plan.arms.size(), 4u);
  EXPECT_EQ(loaded->plan.arms[1].request.sampling().experts_per_token(), 4);
  EXPECT_FALSE(loaded->plan.arms[3].request.sampling().has_experts_per_token());
}

// Its answers lie beside the checkout; without them the file itself must still be in order.
TEST(ExperimentFile, TheShippedOneLoads) {
  const auto loaded = LoadExperiment(CONCLAVE_SOURCE_DIR "/graphs/experiments/recorded_gsm8k.textproto", {});
  if (testing::SharedPath("data/recorded/gsm_items.jsonl").empty()) {
    EXPECT_THAT(loaded, StatusIs(absl::StatusCode::kNotFound, HasSubstr("gsm_items.jsonl")));
    return;
  }
  ASSERT_OK(loaded);
  EXPECT_EQ(loaded->plan.items.size(), 1319u);
  EXPECT_EQ(loaded->plan.arms.size(), 4u);
  EXPECT_EQ(loaded->plan.group.size(), 10u);
}

TEST(ExperimentFile, TheRecordedStudyLoads) {
  const auto loaded = LoadExperiment(CONCLAVE_SOURCE_DIR "/graphs/experiments/recorded_study.textproto", {});
  if (testing::SharedPath("data/recorded/gsm_items.jsonl").empty()) {
    EXPECT_THAT(loaded, StatusIs(absl::StatusCode::kNotFound, HasSubstr("gsm_items.jsonl")));
    return;
  }
  ASSERT_OK(loaded);
  EXPECT_EQ(loaded->plan.group.size(), 20u);
  // What was chosen was chosen on the questions that are not asked.
  EXPECT_EQ(loaded->file.benchmark().split(), "test");
  int64_t development = 0;
  for (const auto& member : loaded->file.fleet().member()) development = member.development().total();
  EXPECT_EQ(loaded->plan.items.size() + static_cast<size_t>(development), 1319u);
}

TEST(ExperimentFile, ShardsTakeEveryItemOnce) {
  const std::string path = CONCLAVE_SOURCE_DIR "/graphs/experiments/scale_model.textproto";
  LoadOptions options;
  options.limit = 7;
  const auto whole = LoadExperiment(path, options);
  ASSERT_OK(whole);
  std::vector<std::string> found(7);
  for (options.shard = {1, 3}; options.shard.index <= 3; ++options.shard.index) {
    const auto part = LoadExperiment(path, options);
    ASSERT_OK(part);
    EXPECT_EQ(part->items_total, 7u);
    EXPECT_EQ(part->items_sha256, whole->items_sha256);
    for (size_t k = 0; k < part->plan.items.size(); ++k) {
      found[static_cast<size_t>(options.shard.index) - 1 + 3 * k] = part->plan.items[k].id;
    }
  }
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(found[i], whole->plan.items[i].id);
  options.shard = {8, 8};
  EXPECT_THAT(LoadExperiment(path, options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("there are 7 items")));
}

TEST(ExperimentFile, HoldsItsLimits) {
  const auto with = [](const std::string& more) { return Load(fmt::format("{}{}", kGood, more)); };
  EXPECT_OK(with(fmt::format("replicates: {}", kReplicatesMax)));
  EXPECT_THAT(with(fmt::format("replicates: {}", kReplicatesMax + 1)), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(with(fmt::format("concurrency: {}", kConcurrencyMax)));
  EXPECT_THAT(with(fmt::format("concurrency: {}", kConcurrencyMax + 1)), StatusIs(absl::StatusCode::kInvalidArgument));
  std::string arms;
  for (int i = 2; i < kArmsMax; ++i) arms += fmt::format("arm {{ name: \"n{}\" graph: \"single\" }}\n", i);
  EXPECT_OK(with(arms));
  EXPECT_THAT(with(arms + "arm { name: \"more\" graph: \"single\" }"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ExperimentFile, ItsBudgetIsOfTheWholeAndChecked) {
  const auto loaded = Load(std::string(kGood) + "budget { calls: 7 wall_time { seconds: 3 } }");
  ASSERT_OK(loaded);
  EXPECT_EQ(loaded->plan.budget.calls(), 7);
  EXPECT_FALSE(loaded->plan.arms[0].request.has_budget());
  for (const auto& [budget, error] : std::map<std::string, std::string>{
           {"calls: -1", "e.textproto:6: budget \"experiment\": limits are at least 0"},
           {"wall_time { seconds: -1 }", "e.textproto:6: budget: wall_time is -1 s"},
           {"wall_time { seconds: 31622401 }", "0 to 31622400 are allowed"},
           {"on_exhausted: FAIL", "e.textproto:6: budget: on_exhausted means nothing"}}) {
    EXPECT_THAT(Load(std::string(kGood) + "budget { " + budget + " }"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)));
  }
  EXPECT_OK(Load(std::string(kGood) + "budget { wall_time { seconds: 31622400 } }"));
}

}  // namespace
}  // namespace conclave::experiment
