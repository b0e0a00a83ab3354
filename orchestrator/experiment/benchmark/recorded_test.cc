// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/recorded.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "common/file.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::benchmark {
namespace {

using conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

class RecordedTest : public ::testing::Test {
 protected:
  absl::StatusOr<RecordedAnswers> Load(std::string_view text, const RecordedOptions& options = {}) {
    EXPECT_OK(WriteFileAtomically(dir_.Path("r.jsonl"), text));
    return RecordedAnswers::Load(dir_.Path("r.jsonl"), options);
  }
  testing::TempDir dir_;
};

constexpr std::string_view kTwoModels =
    "{\"id\":\"q1\",\"model\":\"m\",\"text\":\"it is \\\"4\\\"\",\"answer\":\"4\",\"correct\":true}\n"
    "{\"id\":\"q1\",\"model\":\"n\",\"text\":\"\",\"answer\":null}\n"
    "{\"id\":\"q2\",\"model\":\"m\",\"text\":\"5\",\"sample\":0}\n"
    "{\"id\":\"q2\",\"model\":\"m\",\"text\":\"6\",\"sample\":1}\n";

TEST_F(RecordedTest, FindsAnswers) {
  auto loaded = Load(kTwoModels);
  ASSERT_OK(loaded);
  const RecordedAnswers recorded = *std::move(loaded);  // views survive the move
  EXPECT_THAT(recorded.models(), ElementsAre("m", "n"));
  EXPECT_THAT(recorded.items(), ElementsAre("q1", "q2"));
  ASSERT_NE(recorded.Find("m", "q1"), nullptr);
  EXPECT_EQ(recorded.Find("m", "q1")->text, "it is \"4\"");
  EXPECT_EQ(recorded.Find("m", "q1")->answer, "4");
  EXPECT_EQ(recorded.Find("n", "q1")->answer, std::nullopt);
  EXPECT_EQ(recorded.Find("m", "q2", 1)->text, "6");
  EXPECT_EQ(recorded.Find("n", "q2"), nullptr);
  EXPECT_EQ(recorded.Find("m", "q2", 2), nullptr);
  EXPECT_EQ(recorded.SampleCount("m", "q2"), 2u);
  EXPECT_EQ(recorded.SampleCount("n", "q2"), 0u);
}

TEST_F(RecordedTest, SelectsModels) {
  const auto recorded = Load(kTwoModels, {.models = {"n"}});
  ASSERT_OK(recorded);
  EXPECT_EQ(recorded->answers().size(), 1u);
  EXPECT_THAT(Load(kTwoModels, {.models = {"n", "z"}}), StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"z\"")));
}

TEST_F(RecordedTest, ErrorsNameFileAndLine) {
  const std::string row = "{\"id\":\"q\",\"model\":\"m\",\"text\":\"t\"}\n";
  EXPECT_THAT(Load(row + row),
              StatusIs(kInvalid, HasSubstr("r.jsonl:2: model \"m\" has answered item \"q\", sample 0")));
  EXPECT_THAT(Load(row + "{\"id\":\"q\",\"model\":\"n\"}"), StatusIs(kInvalid, HasSubstr(":2: field \"text\"")));
  EXPECT_THAT(Load(row + "{"), StatusIs(kInvalid, HasSubstr(":2: not JSON")));
  EXPECT_THAT(Load("\n"), StatusIs(kInvalid, HasSubstr("no answers")));
  const auto sample = [](std::string_view n) {
    return "{\"id\":\"q\",\"model\":\"m\",\"text\":\"t\",\"sample\":" + std::string(n) + "}";
  };
  EXPECT_OK(Load(sample("1048575")));
  EXPECT_THAT(Load(sample("1048576")), StatusIs(kInvalid, HasSubstr("from 0 to 1048575")));
  EXPECT_THAT(Load(sample("-1")), StatusIs(kInvalid, HasSubstr("\"sample\"")));
}

TEST_F(RecordedTest, SharedAnswersOf44Models) {
  SKIP_WITHOUT_SHARED(path, "data/recorded/gsm_outputs.jsonl.gz");
  const auto recorded = RecordedAnswers::Load(path);
  ASSERT_OK(recorded);
  EXPECT_EQ(recorded->answers().size(), 57398u);
  EXPECT_EQ(recorded->models().size(), 44u);
  EXPECT_EQ(recorded->items().size(), 1319u);
  for (std::string_view model : recorded->models()) {
    for (std::string_view item : recorded->items()) {
      // 44 x 1,319 less 638: one model (gemini-1.5-flash-exp-0827) was recorded on 681 items only.
      EXPECT_EQ(recorded->SampleCount(model, item), recorded->Find(model, item) != nullptr ? 1u : 0u);
    }
  }
}

}  // namespace
}  // namespace conclave::benchmark
