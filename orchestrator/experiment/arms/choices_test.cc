// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/arms/choices.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/file.h"
#include "orchestrator/experiment/arms/forecast.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::experiment {
namespace {

using conclave::testing::IsOk;
using conclave::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Two members with `more` about the first, a weighted vote of them, `benchmark`, and `rest` of the experiment.
class ChoicesTest : public ::testing::Test {
 protected:
  absl::Status Check(const std::string& benchmark, const std::string& more, const std::string& rest,
                     const std::string& graph = "weighted_vote") {
    const std::string text = fmt::format(
        "name: \"x\" benchmark {{ {} }}\nfleet {{ member {{ name: \"d/a\" worker_address: \"h:1\" {} }}\n"
        "member {{ name: \"d/b\" worker_address: \"h:1\" }} bind {{ name: \"dense/*\" member: \"d/*\" }} }}\n"
        "arm {{ name: \"w\" graph: \"{}\" }}\n{}",
        benchmark, more, graph, rest);
    EXPECT_OK(WriteFileAtomically(dir_.Path("e.textproto"), text));
    auto loaded = LoadExperiment(dir_.Path("e.textproto"), {});
    EXPECT_OK(loaded);
    experiment_ = *std::move(loaded);
    auto fleet = orchestrator::CheckFleet(experiment_.file.fleet(), dir_.Path("e.textproto"), dir_.path(), "");
    EXPECT_OK(fleet);
    fleet_ = *std::move(fleet);
    auto library = orchestrator::GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
    library_ = *std::move(library);
    return CheckChoices(experiment_, fleet_, *library_);
  }
  static std::string Generator(const std::string& split) {
    return "generator { kind: \"steps:2\" count: 20 split: \"" + split + "\" }";
  }

  testing::TempDir dir_;
  LoadedExperiment experiment_;
  orchestrator::LoadedFleet fleet_;
  std::unique_ptr<orchestrator::GraphLibrary> library_;
};

TEST_F(ChoicesTest, WeightsComeFromSomewhere) {
  const std::string test = Generator("test");
  EXPECT_THAT(Check(test, "", ""), IsOk()) << "equal weights are no choice";
  EXPECT_THAT(Check(test, "weight: 1", ""), IsOk());
  EXPECT_THAT(Check(test, "weight: 2", ""), StatusIs(kInvalid, HasSubstr("counts votes by weights")));
  EXPECT_THAT(Check(test, "weight: 2", "", "member_vote"), IsOk()) << "nothing reads them";
  EXPECT_THAT(Check(test, "weight: 2", "chosen { what: WEIGHTS split: \"development\" }"), IsOk());
  EXPECT_THAT(Check(test, "development { correct: 3 total: 4 }", ""), IsOk());
}

TEST_F(ChoicesTest, NothingIsChosenOnWhatIsReported) {
  const auto chosen = [](const std::string& split) { return "chosen { what: MEMBERS split: \"" + split + "\" }"; };
  EXPECT_THAT(Check(Generator("test"), "", chosen("development")), IsOk());
  EXPECT_THAT(Check(Generator("test"), "", chosen("test")),
              StatusIs(kInvalid, HasSubstr("chosen MEMBERS: on the test")));
  EXPECT_THAT(Check(Generator("test"), "", chosen("validation")), StatusIs(kInvalid, HasSubstr("\"validation\"")));
  EXPECT_THAT(Check(Generator("test"), "", chosen("")), StatusIs(kInvalid, HasSubstr("on which questions")));
  EXPECT_THAT(Check(Generator("development"), "", chosen("development")),
              StatusIs(kInvalid, HasSubstr("which the benchmark asks")));
  EXPECT_THAT(Check("generator { kind: \"steps:2\" count: 20 }", "", chosen("development")),
              StatusIs(kInvalid, HasSubstr("asks all questions")));
  EXPECT_THAT(Check(Generator("test"), "", "chosen { split: \"development\" }"),
              StatusIs(kInvalid, HasSubstr("not what")));
  EXPECT_THAT(Check(Generator("development"), "development { correct: 3 total: 4 }", ""),
              StatusIs(kInvalid, HasSubstr("asks the development split")));
}

// The questions themselves, from a file and from a run directory, laid out differently.
TEST_F(ChoicesTest, QuestionsThatWereChosenOnAreNotAsked) {
  ASSERT_OK(WriteFileAtomically(dir_.Path("test.jsonl"), R"({"id":"1","question":"What is 1 + 1?","answer":"2"}
{"id":"2","question":"What is 2 + 2?","answer":"4"}
)"));
  ASSERT_OK(WriteFileAtomically(dir_.Path("other.jsonl"), R"({"id":"1","question":"What is 3 + 3?","answer":"6"})"));
  std::filesystem::create_directories(dir_.Path("run"));
  ASSERT_OK(WriteFileAtomically(dir_.Path("run/items.jsonl"), R"({"id":"9","question":"what is  2+2?","answer":"4"})"));
  const std::string benchmark = "path: \"test.jsonl\"";
  EXPECT_THAT(Check(benchmark, "", "chosen { what: THRESHOLDS path: \"other.jsonl\" }"), IsOk());
  EXPECT_THAT(Check(benchmark, "", "chosen { what: THRESHOLDS path: \"run\" }"),
              StatusIs(kInvalid, HasSubstr("1 of the 1 questions")));
  EXPECT_THAT(Check(benchmark, "", "chosen { what: THRESHOLDS path: \"test.jsonl\" }"),
              StatusIs(kInvalid, HasSubstr("2 of the 2 questions")));
  EXPECT_THAT(Check(benchmark, "", "chosen { what: THRESHOLDS path: \"absent.jsonl\" }"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent.jsonl")));
  EXPECT_THAT(Check(benchmark, "development { correct: 1 total: 2 path: \"" + dir_.Path("test.jsonl") + "\" }", ""),
              StatusIs(kInvalid, HasSubstr("member \"d/a\": development results")));
}

TEST_F(ChoicesTest, EveryFaultAtOnce) {
  const absl::Status status =
      Check(Generator("test"), "weight: 2", "chosen { what: MEMBERS split: \"test\" } chosen { what: PROMPTS }");
  EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("chosen MEMBERS")));
  EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("chosen PROMPTS")));
  EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("by weights")));
}

// 20 questions, two members: bounds by multiplication, power by the formula.
TEST_F(ChoicesTest, AForecast) {
  ASSERT_OK(Check(Generator("test"), "",
                  "arm { name: \"one\" graph: \"single\" bind { name: \"solver\" member: \"d/a\" } }\n"
                  "contrast { a: \"w\" b: \"one\" primary: true discordance: 0.25 } replicates: 3"));
  const auto forecast = MakeForecast(experiment_, {}, fleet_, *library_);
  ASSERT_OK(forecast);
  ASSERT_EQ(forecast->arms.size(), 2u);
  EXPECT_EQ(forecast->arms[0].runs, 60);
  EXPECT_EQ(forecast->arms[0].calls, 120);
  EXPECT_EQ(forecast->arms[1].calls, 60);
  EXPECT_FALSE(forecast->arms[0].flops);  // nobody has a card
  ASSERT_EQ(forecast->power.size(), 1u);
  // (1.95996 + 0.84162) sqrt(0.25 / 20)
  EXPECT_NEAR(forecast->power[0].mde80, 2.8015852 * std::sqrt(0.25 / 20), 1e-6);
  ASSERT_EQ(forecast->warnings.size(), 1u);
  EXPECT_THAT(forecast->warnings[0], HasSubstr("cannot answer"));
  EXPECT_THAT(ToText(*forecast, experiment_), HasSubstr("warning: "));
  EXPECT_EQ(ToJson(*forecast, experiment_)["arms"][0]["calls"], 120.0);
}

}  // namespace
}  // namespace conclave::experiment
