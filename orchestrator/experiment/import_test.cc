// SPDX-License-Identifier: Apache-2.0
// Lines in the forms that lm-evaluation-harness (evaluator.py, --log_samples) and Inspect (EvalLog as JSON) write.
#include "orchestrator/experiment/import.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "orchestrator/experiment/parse_json.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::experiment {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

absl::StatusOr<Imported> Import(const std::string& name, const std::string& text) {
  testing::TempDir dir;
  EXPECT_OK(WriteFileAtomically(dir.Path(name), text));
  return ImportOutcomes(dir.Path(name), "arm");
}

std::string Sample(int doc, const char* filter, const char* answer, const char* metric) {
  return fmt::format(
      R"({{"doc_id":{},"doc":{{"question":"2+2?","cluster":"c"}},"target":"4","arguments":[["Q: 2+2?",{{}}]],)"
      R"("resps":[["so 4"]],"filtered_resps":["{}"],"doc_hash":"x","filter":"{}","metrics":["exact_match"],{}}})",
      doc, answer, filter, metric);
}

TEST(ImportHarness, EveryFilterIsAnArm) {
  const auto imported =
      Import("samples_gsm8k.jsonl", Sample(0, "strict-match", "4", R"("exact_match":1.0)") + "\n" +
                                        Sample(0, "flexible", "4", R"("exact_match":1.0)") + "\n" +
                                        Sample(1, "strict-match", "[invalid]", R"("exact_match":0.0)") + "\n" +
                                        Sample(1, "flexible", "5", R"("exact_match":0.0)") + "\n");
  ASSERT_OK(imported);
  ASSERT_EQ(imported->rows.size(), 4u);
  EXPECT_EQ(imported->rows[0].arm, "arm (strict-match)");
  EXPECT_EQ(imported->rows[1].arm, "arm (flexible)");
  EXPECT_EQ(imported->rows[0].kind, OutcomeKind::kCorrect);
  EXPECT_EQ(imported->rows[2].kind, OutcomeKind::kNoAnswer);
  EXPECT_EQ(imported->rows[2].answer, "");
  EXPECT_EQ(imported->rows[3].kind, OutcomeKind::kWrong);
  EXPECT_EQ(imported->rows[3].id, "1");
  EXPECT_EQ(imported->rows[3].gold, "4");
  EXPECT_EQ(imported->rows[3].cluster, "c");
  EXPECT_EQ(imported->items.size(), 2u);
  EXPECT_THAT(imported->items[0], HasSubstr("\"question\":\"2+2?\""));
  EXPECT_THAT(imported->transcripts[3], HasSubstr("\"text\":\"so 4\""));

  const auto one = Import("samples.jsonl", Sample(0, "none", "4", R"("exact_match":1)"));
  ASSERT_OK(one);
  EXPECT_EQ(one->rows[0].arm, "arm");
}

TEST(ImportHarness, LogLikelihoodTasksAndMistakes) {
  const auto choice = Import("s.jsonl", R"({"doc_id":3,"doc":{},"target":"1","resps":[[["-1.2","False"]]],)"
                                        R"("filtered_resps":[["-1.2","False"]],"acc":0.0,"acc_norm":1.0})");
  ASSERT_OK(choice);
  EXPECT_EQ(choice->rows[0].kind, OutcomeKind::kWrong);
  EXPECT_EQ(choice->rows[0].answer, "");
  EXPECT_TRUE(choice->transcripts.empty());
  const auto bad = [](const std::string& text, const char* what) {
    EXPECT_THAT(Import("s.jsonl", text), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what))) << text;
  };
  const std::string good = Sample(0, "none", "4", R"("exact_match":1.0)") + "\n";
  bad(good + good, "s.jsonl:2: doc_id 0 was given before");
  bad(good + Sample(1, "none", "4", R"("exact_match":0.5)"), "s.jsonl:2: \"exact_match\" is 0.5; 0 or 1 is needed");
  bad(good + Sample(1, "none", "4", R"("f1":1.0)"), "s.jsonl:2: \"exact_match\" is null");
  bad(good + "{}\n", "s.jsonl:2: has no \"doc_id\"");
  bad(R"({"doc_id":1,"filtered_resps":[],"f1":1})", "none of exact_match, acc, em, pass@1");
}

std::string Log(const std::string& samples, const char* status = "success") {
  return fmt::format(R"({{"version":2,"status":"{}","eval":{{"task":"gsm8k","model":"openai/gpt"}},"samples":[{}]}})",
                     status, samples);
}

TEST(ImportInspect, ScoresEpochsUsageAndErrors) {
  const auto imported = Import(
      "log.json",
      Log(R"({"id":"a","epoch":1,"input":[{"role":"system","content":"s"},{"role":"user","content":"2+2?"}],"target":["4"],
              "scores":{"match":{"value":"C","answer":"4"}},"output":{"completion":"it is 4"},"total_time":1.5,
              "model_usage":{"m":{"input_tokens":10,"output_tokens":5,"input_tokens_cache_read":2}}},
             {"id":"a","epoch":2,"input":"2+2?","target":"4","scores":{"match":{"value":"I","answer":"5"}}},
             {"id":7,"epoch":1,"input":"?","target":"4","scores":{"match":{"value":"N"}}},
             {"id":8,"epoch":1,"input":"?","target":"4","scores":{"match":{"value":1}}},
             {"id":9,"epoch":1,"input":"?","target":"4","error":{"message":"boom"}})"));
  ASSERT_OK(imported);
  ASSERT_EQ(imported->rows.size(), 5u);
  EXPECT_EQ(imported->rows[0].arm, "openai/gpt");
  EXPECT_EQ(imported->rows[0].kind, OutcomeKind::kCorrect);
  EXPECT_EQ(imported->rows[0].prompt_tokens, 10);
  EXPECT_EQ(imported->rows[0].cached_tokens, 2);
  EXPECT_EQ(imported->rows[0].seconds, 1.5);
  EXPECT_EQ(imported->rows[0].gold, "4");
  EXPECT_EQ(imported->rows[1].replicate, 1);
  EXPECT_EQ(imported->rows[1].kind, OutcomeKind::kWrong);
  EXPECT_EQ(imported->rows[2].kind, OutcomeKind::kNoAnswer);
  EXPECT_EQ(imported->rows[3].kind, OutcomeKind::kCorrect);
  EXPECT_EQ(imported->rows[4].kind, OutcomeKind::kFailed);
  EXPECT_THAT(imported->items[0], HasSubstr("\"question\":\"2+2?\""));
  EXPECT_EQ(imported->transcripts.size(), 1u);
}

TEST(ImportInspect, WhatCannotBeToldIsAnError) {
  const auto bad = [](const std::string& text, const char* what) {
    EXPECT_THAT(Import("log.json", text), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what))) << text;
  };
  bad(Log(R"({"id":1,"epoch":1,"scores":{"m":{"value":"P"}}})"), "log.json: sample 1: the score is \"P\"");
  bad(Log(R"({"id":1,"epoch":1,"scores":{"m":{"value":0.5}}})"), "partial credit");
  bad(Log(R"({"id":1,"epoch":1})"), "score the log first");
  bad(Log(R"({"id":1,"epoch":0,"scores":{"m":{"value":1}}})"), "\"epoch\" from 1");
  bad(Log(R"({"id":1,"epoch":1,"scores":{"m":{"value":1}}},{"id":1,"epoch":1,"scores":{"m":{"value":1}}})"),
      "was given before in this epoch");
  bad(Log("", "started"), "status is \"started\"");
  bad(Log(""), "holds no samples");
  bad("[]", "is no Inspect log");
  bad(Log(R"({"id":1,"epoch":1,"scores":{"m":{"value":[1]}}})"), "the score is a list or an object");
  const auto two = Import("log.json", Log(R"({"id":1,"epoch":1,"scores":{"m":{"value":1},"n":{"value":0}}})"));
  ASSERT_OK(two);
  EXPECT_EQ(two->rows[1].arm, "openai/gpt (n)");
}

TEST(ParseJson, NestingIsBoundedBeforeAnythingRecurses) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_FALSE(ParseJson(nested(kJsonDepthMax)).is_discarded());
  EXPECT_TRUE(ParseJson(nested(kJsonDepthMax + 1)).is_discarded());
  EXPECT_TRUE(ParseJson(nested(1'000'000)).is_discarded());
  EXPECT_FALSE(PlaceBeyondDepth(R"(["[[[", "\"[", {"a": []}])", 3).has_value());
  EXPECT_TRUE(PlaceBeyondDepth(R"(["[[[", "\"[", {"a": []}])", 2).has_value());
  EXPECT_THAT(Import("log.json", Log(R"({"id":1,"target":)" + nested(1'000'000) + "}")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is no Inspect log")));
}

TEST(ImportOwn, OutcomesAreReadAsTheyAre) {
  const auto own = Import("o.jsonl", "{\"id\":1,\"correct\":true}\n");
  ASSERT_OK(own);
  EXPECT_EQ(own->rows[0].arm, "arm");
  EXPECT_TRUE(own->items.empty());
  EXPECT_THAT(Import("o.jsonl", ""), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("holds no outcomes")));
}

}  // namespace
}  // namespace conclave::experiment
