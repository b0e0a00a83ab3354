// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/arms/baselines.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>

#include "common/file.h"
#include "orchestrator/experiment/arms/choices.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::experiment {
namespace {

using deliberation::v1::Baseline;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

constexpr const char* kFleet = R"(fleet {
  member { name: "d/a" worker_address: "h:1" development { correct: 6 total: 10 } card { total_parameters: 1000 } }
  member { name: "d/b" worker_address: "h:1" development { correct: 7 total: 10 } card { total_parameters: 1000 } }
  member { name: "d/c" worker_address: "h:1" card { total_parameters: 1000 } }
  member { name: "big" worker_address: "h:1" card { kind: "moe" total_parameters: 9000 active_parameters: 2000 } }
  bind { name: "dense/*" member: "d/*" }
  bind { name: "planner" member: "d/a" }
  bind { name: "critic" member: "d/a" }
  bind { name: "verifier" member: "d/c" }
}
)";

struct Made {
  LoadedExperiment experiment;
  orchestrator::LoadedFleet fleet;
  std::unique_ptr<orchestrator::GraphLibrary> library;
  Baselines baselines;

  const Baseline* Find(const std::string& of, Baseline::Kind kind, const std::string& subject = "") const {
    for (const Baseline& record : baselines.records) {
      if (record.of() == of && record.kind() == kind && (subject.empty() || record.subject() == subject))
        return &record;
    }
    return nullptr;
  }
  std::string ArmOf(const std::string& of, Baseline::Kind kind, const std::string& subject = "") const {
    const Baseline* record = Find(of, kind, subject);
    return record == nullptr ? "(none)" : record->arm();
  }
  std::vector<std::string> Added() const {
    std::vector<std::string> names;
    for (const GeneratedArm& arm : baselines.arms) names.push_back(arm.arm.name());
    return names;
  }
};

Made Make(const std::string& arms, const std::string& fleet = kFleet) {
  testing::TempDir dir;
  EXPECT_OK(
      WriteFileAtomically(dir.Path("e.textproto"),
                          "name: \"x\" benchmark { generator { kind: \"arithmetic\" count: 3 } }\n" + fleet + arms));
  Made made;
  auto loaded = LoadExperiment(dir.Path("e.textproto"), {});
  EXPECT_OK(loaded);
  made.experiment = *std::move(loaded);
  auto checked = orchestrator::CheckFleet(made.experiment.file.fleet(), "e.textproto", "", "");
  EXPECT_OK(checked);
  made.fleet = *std::move(checked);
  auto library = orchestrator::GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
  EXPECT_OK(library);
  made.library = *std::move(library);
  auto baselines = MakeBaselines(made.experiment, made.fleet, *made.library);
  EXPECT_OK(baselines);
  made.baselines = *std::move(baselines);
  return made;
}

TEST(Baselines, OfACouncil) {
  const Made made = Make("arm { name: \"council\" graph: \"council\" }");
  EXPECT_EQ(made.ArmOf("council", Baseline::BEST_MEMBER), "d/b once");
  EXPECT_EQ(made.ArmOf("council", Baseline::RIVAL), "big once");
  EXPECT_EQ(made.ArmOf("council", Baseline::RIVAL_IN_EVERY_SEAT), "big in every seat of council");
  EXPECT_EQ(made.ArmOf("council", Baseline::PLAIN_VOTE), "plain vote of council");
  EXPECT_EQ(made.ArmOf("council", Baseline::WITHOUT_ROLE, "planner"), "council without planner");
  EXPECT_EQ(made.ArmOf("council", Baseline::WITHOUT_ROLE, "critic"), "council without critic");
  EXPECT_EQ(made.ArmOf("council", Baseline::WITHOUT_ROLE, "verifier"), "council without verifier");
  EXPECT_EQ(made.ArmOf("council", Baseline::WITHOUT_ROLE, "prover"), "");
  EXPECT_THAT(made.Find("council", Baseline::WITHOUT_ROLE, "prover")->why_not(), Not(IsEmpty()));
  EXPECT_NE(made.Find("council", Baseline::ORACLE), nullptr);
  for (const GeneratedArm& arm : made.baselines.arms) {
    EXPECT_TRUE(arm.arm.generated());
    EXPECT_GT(arm.seating.bound.calls(), 0);
    EXPECT_TRUE(arm.seating.bound.has_flops());
    if (arm.arm.name() == "big in every seat of council") {
      EXPECT_EQ(arm.seating.members, std::vector<std::string>{"big"});
    }
    if (arm.arm.name() == "plain vote of council") {
      EXPECT_THAT(arm.seating.members, UnorderedElementsAre("d/a", "d/b", "d/c"));
    }
  }
}

TEST(Baselines, WhatIsDeclaredIsNotAddedAgain) {
  const Made made = Make(R"(
arm { name: "group" graph: "member_vote" }
arm { name: "giant" graph: "single" bind { name: "solver" member: "big" } }
arm { name: "cool giant" graph: "single" bind { name: "solver" member: "big" } sampling { temperature: 0.1 } }
)");
  EXPECT_EQ(made.ArmOf("group", Baseline::RIVAL), "giant");
  EXPECT_EQ(made.ArmOf("group", Baseline::RIVAL_IN_EVERY_SEAT), "giant") << "a vote of one is one answer";
  EXPECT_EQ(made.ArmOf("group", Baseline::PLAIN_VOTE), "group") << "it is one itself";
  EXPECT_EQ(made.Find("group", Baseline::WITHOUT_ROLE), nullptr);
  EXPECT_EQ(made.Find("giant", Baseline::RIVAL), nullptr) << "arms of one member have no baselines";
  EXPECT_THAT(made.Added(), UnorderedElementsAre("d/b once"));
}

TEST(Baselines, AWeightedVoteIsComparedWithThePlainOneOfTheSameMembers) {
  const Made made = Make("arm { name: \"w\" graph: \"weighted_vote\" }");
  EXPECT_EQ(made.ArmOf("w", Baseline::PLAIN_VOTE), "plain vote of w");
}

TEST(Baselines, EqualWeightsAreAPlainVoteAlready) {
  const Made made = Make("arm { name: \"w\" graph: \"weighted_vote\" }", R"(fleet {
  member { name: "d/a" worker_address: "h:1" } member { name: "d/b" worker_address: "h:1" }
  bind { name: "dense/*" member: "d/*" } }
)");
  EXPECT_EQ(made.ArmOf("w", Baseline::PLAIN_VOTE), "w");
}

TEST(Baselines, TheArmsKnobsAreItsBaselinesToo) {
  const Made made = Make("arm { name: \"w\" graph: \"member_vote\" sampling { temperature: 0.5 } }");
  EXPECT_EQ(made.ArmOf("w", Baseline::RIVAL), "big once, sampled as w");
  EXPECT_EQ(made.baselines.arms[0].arm.sampling().temperature(), 0.5);
}

TEST(Baselines, WhatCannotBeMadeSaysWhy) {
  const Made made = Make("arm { name: \"w\" graph: \"member_vote\" }", R"(fleet {
  member { name: "d/a" worker_address: "h:1" } member { name: "d/b" worker_address: "h:1" }
  bind { name: "dense/*" member: "d/*" } }
)");
  EXPECT_THAT(made.Find("w", Baseline::BEST_MEMBER)->why_not(), HasSubstr("development"));
  EXPECT_THAT(made.Find("w", Baseline::RIVAL)->why_not(), HasSubstr("rival: "));
  EXPECT_THAT(made.Added(), IsEmpty());
}

TEST(Baselines, AnUnknownRivalIsAnError) {
  testing::TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir.Path("e.textproto"),
                                std::string("name: \"x\" benchmark { generator { kind: \"arithmetic\" count: 3 } } "
                                            "rival: \"bigg\"\n") +
                                    kFleet + "arm { name: \"w\" graph: \"member_vote\" }"));
  const auto loaded = LoadExperiment(dir.Path("e.textproto"), {});
  ASSERT_OK(loaded);
  const auto fleet = orchestrator::CheckFleet(loaded->file.fleet(), "e.textproto", "", "");
  auto library = orchestrator::GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
  EXPECT_THAT(MakeBaselines(*loaded, *fleet, **library),
              testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is \"big\" meant?")));
}

TEST(Curves, AsManySamplesAsTheArmCosts) {
  Made made = Make("arm { name: \"group\" graph: \"member_vote\" }");
  ASSERT_OK(AddCurves(made.experiment, made.fleet, *made.library,
                      {{"group", 50.0}, {"big once", 12.0}, {"d/b once", 0.1}}, &made.baselines));
  EXPECT_EQ(made.ArmOf("group", Baseline::RIVAL_CURVE), "big x5");  // 50 / 12, rounded up
  EXPECT_EQ(made.ArmOf("group", Baseline::BEST_MEMBER_CURVE), "d/b x64") << "at most as many as a node may ask for";
  for (const GeneratedArm& arm : made.baselines.arms) {
    EXPECT_TRUE(arm.arm.name() != "big x5" || arm.seating.bound.calls() == 5);
  }
}

TEST(Curves, WithoutCostsTheBoundOfCallsDecidesAndADeclaredCurveServes) {
  Made made = Make(R"(
arm { name: "group" graph: "member_vote" }
arm { name: "giant x20" graph: "self_consistency" bind { name: "solver" member: "big" } }
)");
  ASSERT_OK(AddCurves(made.experiment, made.fleet, *made.library, {}, &made.baselines));
  EXPECT_EQ(made.ArmOf("group", Baseline::RIVAL_CURVE), "giant x20");
  EXPECT_EQ(made.ArmOf("group", Baseline::BEST_MEMBER_CURVE), "d/b x3");
}

TEST(Curves, OfARecordingAreAsLongAsItIs) {
  testing::TempDir dir;
  std::string lines;
  for (int item = 0; item < 3; ++item) {
    for (int sample = 0; sample < 2; ++sample) {
      lines += fmt::format("{{\"id\":\"{}\",\"model\":\"big\",\"text\":\"1\",\"sample\":{}}}\n", item, sample);
      if (sample == 0) lines += fmt::format("{{\"id\":\"{}\",\"model\":\"d/b\",\"text\":\"1\"}}\n", item);
    }
  }
  ASSERT_OK(WriteFileAtomically(dir.Path("r.jsonl"), lines));
  const auto member = [&](const char* name, const char* more) {
    return fmt::format("member {{ name: \"{}\" recorded {{ path: \"{}\" }} {} }}\n", name, dir.Path("r.jsonl"), more);
  };
  Made made = Make("arm { name: \"group\" graph: \"member_vote\" }",
                   "fleet { " + member("d/a", "") + member("d/b", "development { correct: 1 total: 2 }") +
                       member("big", "card { kind: \"moe\" }") + "bind { name: \"dense/*\" member: \"d/*\" } }\n");
  for (size_t i = 0; i < 3; ++i) made.experiment.plan.items[i].id = std::to_string(i);
  ASSERT_OK(
      AddCurves(made.experiment, made.fleet, *made.library, {{"group", 9.0}, {"big once", 1.0}}, &made.baselines));
  EXPECT_EQ(made.ArmOf("group", Baseline::RIVAL_CURVE), "big x2");
  EXPECT_THAT(made.Find("group", Baseline::BEST_MEMBER_CURVE)->why_not(), HasSubstr("only one answer"));
}

// Each shipped experiment keeps its choices off the questions it reports, and knows its rivals.
TEST(Baselines, OfShippedExperiments) {
  auto library = orchestrator::GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
  ASSERT_OK(library);
  int with_rivals = 0;
  for (const auto& entry : std::filesystem::directory_iterator(CONCLAVE_SOURCE_DIR "/graphs/experiments")) {
    if (entry.path().extension() != ".textproto") continue;
    const auto loaded = LoadExperiment(entry.path(), {.limit = 20, .arms = {}});
    if (absl::IsNotFound(loaded.status())) {
      std::cerr << "SKIPPED " << entry.path().filename() << ": " << loaded.status() << "\n";  // needs ../shared
      continue;
    }
    ASSERT_OK(loaded);
    auto fleet = loaded->fleet_path.empty()
                     ? orchestrator::CheckFleet(loaded->file.fleet(), loaded->path, loaded->directory, "")
                     : orchestrator::LoadFleet(loaded->fleet_path, "");
    ASSERT_OK(fleet);
    EXPECT_OK(CheckChoices(*loaded, *fleet, **library)) << entry.path();
    const auto baselines = MakeBaselines(*loaded, *fleet, **library);
    ASSERT_OK(baselines);
    for (const Baseline& record : baselines->records)
      with_rivals += record.kind() == Baseline::RIVAL && !record.arm().empty();
  }
  EXPECT_GE(with_rivals, 4);
}

TEST(AddTo, TheRunDirectorysExperimentIsWholeAndLoadsAgain) {
  Made made = Make(
      "arm { name: \"council\" graph: \"council\" }\narm { name: \"one\" graph: \"single\" "
      "bind { name: \"solver\" member: \"d/a\" } }\n");
  ASSERT_OK(AddCurves(made.experiment, made.fleet, *made.library, {}, &made.baselines));
  testing::TempDir dir;
  const std::string graphs = dir.Path("graphs");
  ASSERT_OK(WriteGraphs(made.baselines, graphs));
  LoadedExperiment experiment = made.experiment;
  AddTo(made.baselines, graphs, &experiment);
  AddTo(made.baselines, graphs, &experiment);  // adds nothing twice
  EXPECT_EQ(experiment.plan.arms.size(), 2 + made.baselines.arms.size());
  ASSERT_FALSE(experiment.plan.declaration.contrasts.empty());
  // Declared contrasts first, the default one here; the others are generated.
  EXPECT_EQ(experiment.plan.declaration.contrasts[0].b, "one");
  EXPECT_FALSE(experiment.plan.declaration.contrasts[0].generated);
  EXPECT_TRUE(experiment.plan.declaration.contrasts.back().generated);

  std::string text;
  google::protobuf::TextFormat::PrintToString(experiment.file, &text);
  ASSERT_OK(WriteFileAtomically(dir.Path("e.textproto"), text));
  const auto again = LoadExperiment(dir.Path("e.textproto"), {});
  ASSERT_OK(again);
  ASSERT_EQ(again->plan.arms.size(), experiment.plan.arms.size());
  EXPECT_EQ(again->plan.declaration.baselines.size(), made.baselines.records.size());
  EXPECT_EQ(again->plan.declaration.contrasts.size(), experiment.plan.declaration.contrasts.size());
  // Graphs that were written are found again, with their roles, and are the same.
  for (const GeneratedArm& arm : made.baselines.arms) {
    const auto it = std::find_if(again->plan.arms.begin(), again->plan.arms.end(),
                                 [&](const ArmPlan& plan) { return plan.name == arm.arm.name(); });
    ASSERT_NE(it, again->plan.arms.end());
    EXPECT_TRUE(it->generated);
    const auto graph = made.library->Find(it->request.graph_name());
    ASSERT_OK(graph);
    EXPECT_EQ((*graph)->revision(), arm.seating.graph->revision()) << arm.arm.name();
  }
}

}  // namespace
}  // namespace conclave::experiment
