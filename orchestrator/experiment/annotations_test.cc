// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/annotations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::experiment {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

absl::StatusOr<Annotations> Read(const std::string& text) {
  testing::TempDir dir;
  EXPECT_OK(WriteFileAtomically(dir.Path("a.jsonl"), text));
  return ReadAnnotations(dir.Path("a.jsonl"));
}

Plan Three() {
  Plan plan;
  plan.declaration.grader = "gsm8k";
  for (const char* gold : {"1", "2", "3"}) {
    benchmark::Item item;
    item.id = std::string("q") + gold, item.question = "?", item.answer = gold;
    plan.items.push_back(item);
  }
  plan.arms.push_back({"a", {}});
  plan.grader = grade::MakeGrader("gsm8k").value();
  return plan;
}

// Every run of the plan said 1.
class SaysOne final : public Deliberator {
 public:
  void Start(const deliberation::v1::RunRequest&, std::function<void(absl::Status)> done) override {
    done(absl::OkStatus());
  }
  absl::StatusOr<RunRecord> Read(const std::string&) override {
    RunRecord record;
    auto* finished = record.events.emplace_back().mutable_run_finished();
    finished->set_state(deliberation::v1::RUN_STATE_SUCCEEDED);
    finished->set_text("#### 1");
    return record;
  }
  void Stop() override {}
};

TEST(Annotations, AreHonouredWhereverOutcomesAreWritten) {
  testing::TempDir dir;
  const auto annotations = Read(
      "{\"id\":\"q2\",\"gold\":\"1\",\"note\":\"misprint\"}\n{\"id\":\"q3\",\"exclude\":true}\n"
      "{\"id\":\"q1\",\"arm\":\"a\",\"outcome\":\"wrong\",\"note\":\"right by luck\"}\n");
  ASSERT_OK(annotations);
  const auto plan = ApplyAnnotations(*annotations, Three());
  ASSERT_OK(plan);
  SaysOne said;
  ASSERT_OK(Export(*plan, said, dir.path()));
  const auto rows = ReadOutcomes(dir.Path("outcomes.jsonl"), "");
  ASSERT_OK(rows);
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[0].kind, OutcomeKind::kWrong);
  EXPECT_EQ((*rows)[0].rule, "annotated");
  EXPECT_EQ((*rows)[1].kind, OutcomeKind::kCorrect);
  EXPECT_EQ((*rows)[1].gold, "1");
  EXPECT_THAT(ReadFile(dir.Path("summary.json")).value(),
              HasSubstr("1 gold answers corrected, 1 items left out, 1 verdicts set by hand"));

  // Without a file everything is as it was.
  const auto none = ReadAnnotations(dir.Path("absent.jsonl"));
  ASSERT_OK(none);
  EXPECT_EQ(ApplyAnnotations(*none, Three())->items.size(), 3u);
  EXPECT_TRUE(ApplyAnnotations(*none, Three())->notes.empty());
}

TEST(Annotations, MistakesAreNamedWithTheirLine) {
  const auto bad = [](const std::string& text, const char* what) {
    EXPECT_THAT(Read("{\"id\":\"q9\",\"gold\":\"1\"}\n" + text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)))
        << text;
  };
  bad("[]", "a.jsonl:2: is not a JSON object");
  bad("{\"id\":\"q1\"}", ":2: one of \"gold\"");
  bad("{\"id\":\"q1\",\"gold\":\"1\",\"exclude\":true}", ":2: one of \"gold\"");
  bad("{\"id\":\"q9\",\"gold\":\"2\"}", ":2: item \"q9\" was annotated before");
  bad("{\"id\":\"q1\",\"exclude\":false}", "can only be true");
  bad("{\"id\":\"q1\",\"outcome\":\"wrong\"}", "\"arm\" is missing");
  bad("{\"id\":\"q1\",\"arm\":\"a\",\"outcome\":\"rigth\"}", "known: correct wrong");
  bad("{\"id\":\"q1\",\"arm\":\"a\",\"outcome\":\"wrong\",\"replicate\":-1}", "\"replicate\" is -1");
  bad("{\"id\":\"q1\",\"golden\":\"1\"}", "\"golden\" is not known here");
  EXPECT_THAT(ApplyAnnotations(*Read("{\"id\":\"q9\",\"gold\":\"1\"}"), Three()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no item \"q9\"")));
  EXPECT_THAT(ApplyAnnotations(*Read("{\"id\":\"q1\",\"arm\":\"b\",\"outcome\":\"wrong\"}"), Three()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no arm \"b\"")));
}

}  // namespace
}  // namespace conclave::experiment
