// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/outcome.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::experiment {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

absl::StatusOr<std::vector<Outcome>> Read(const std::string& text, const std::string& cluster = "cluster") {
  testing::TempDir dir;
  const std::string path = dir.Path("o.jsonl");
  EXPECT_OK(WriteFileAtomically(path, text));
  return ReadOutcomes(path, "arm-a", cluster);
}

TEST(Outcome, WritesAndReadsBack) {
  Outcome o;
  o.arm = "vote", o.id = "q\"1", o.replicate = 2, o.kind = OutcomeKind::kTruncated, o.gold = "4", o.cluster = "c";
  o.calls = 3, o.lost_calls = 1, o.output_tokens = 120, o.flops = 1.5e12, o.seconds = 0.25, o.estimated = true;
  const auto rows = Read(ToJsonLine(o) + "\n");
  ASSERT_OK(rows);
  EXPECT_EQ(*rows, std::vector<Outcome>{o});
}

TEST(Outcome, ReadsOtherHarnesses) {
  const auto rows =
      Read("{\"id\": 7, \"correct\": true, \"topic\": \"x\"}\n\n{\"id\": \"8\", \"score\": 0.0}\n", "topic");
  ASSERT_OK(rows);
  EXPECT_EQ((*rows)[0].id, "7");
  EXPECT_EQ((*rows)[0].arm, "arm-a");
  EXPECT_EQ((*rows)[0].kind, OutcomeKind::kCorrect);
  EXPECT_EQ((*rows)[0].cluster, "x");
  EXPECT_EQ((*rows)[1].kind, OutcomeKind::kWrong);
}

TEST(Outcome, SaysWhichLineIsWrong) {
  const auto bad = [](const char* text, const char* what) {
    EXPECT_THAT(Read(text), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what))) << text;
  };
  bad("", "holds no outcomes");
  bad("{\"id\":\"1\",\"correct\":true}\n{nope\n", ":2: is not a JSON object");
  bad("{\"correct\":true}\n", ":1: has no \"id\"");
  bad("{\"id\":\"1\"}\n", "neither \"outcome\"");
  bad("{\"id\":\"1\",\"outcome\":\"rigth\"}\n", "known: correct wrong");
  bad("{\"id\":\"1\",\"score\":0.5}\n", "true, false, 1 or 0");
  bad("{\"id\":\"1\",\"correct\":1}\n{\"id\":\"1\",\"correct\":0}\n",
      ":2: item \"1\" of arm \"arm-a\", replicate 0, was given before");
}

}  // namespace
}  // namespace conclave::experiment
