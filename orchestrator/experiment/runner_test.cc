// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "common/clock.h"
#include "common/file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::experiment {
namespace {

using deliberation::v1::RunRequest;
using ::testing::HasSubstr;

// Answers at once: arm "wise" says the question's own number, arm "vote" lets three members speak of whom two are
// wrong.
class FakeDeliberator final : public Deliberator {
 public:
  void Start(const RunRequest& request, std::function<void(absl::Status)> done) override {
    ++starts_;
    if (hold_on_ == starts_) return void(held_ = std::move(done));
    if (fail_on_ == starts_) return done(absl::UnavailableError("worker gone"));
    seeds_[request.item_id()].insert(request.seed());
    if (!records_.contains(request.request_id())) records_[request.request_id()] = Answer(request);
    done(absl::OkStatus());
  }
  absl::StatusOr<RunRecord> Read(const std::string& id) override {
    const auto it = records_.find(id);
    if (it == records_.end()) return absl::NotFoundError(id);
    return it->second;
  }
  void Stop() override {
    stopped_ = true;
    if (held_) std::exchange(held_, nullptr)(absl::UnavailableError("stopped"));
  }

  std::map<std::string, RunRecord> records_;
  std::map<std::string, std::set<uint64_t>> seeds_;
  int starts_ = 0, fail_on_ = 0, hold_on_ = 0;
  std::function<void(absl::Status)> held_;
  bool stopped_ = false;

 private:
  static RunRecord Answer(const RunRequest& request) {
    const std::string right = request.inputs().at("question");
    const bool vote = request.graph_name() == "vote";
    RunRecord record;
    record.seconds = 0.5;
    for (int m = 0; m < (vote ? 3 : 1); ++m) {
      auto& event = record.events.emplace_back();
      event.set_node_path("answer");
      auto* call = event.mutable_call_finished();
      call->mutable_key()->set_member(vote ? "m" + std::to_string(m) : "big");
      call->mutable_key()->set_subject(-1);
      call->set_text("so #### " + (m == 0 ? right : std::string("99")));
      call->set_answer(m == 0 ? right : "99");
      call->mutable_usage()->set_flop_count(10);
    }
    auto* finished = record.events.emplace_back().mutable_run_finished();
    finished->set_state(deliberation::v1::RUN_STATE_SUCCEEDED);
    finished->set_text(vote ? "so #### 99" : "so #### " + right);
    finished->mutable_ledger()->set_calls(vote ? 3 : 1);
    finished->mutable_ledger()->set_output_tokens(7);
    return record;
  }
};

Plan TestPlan() {
  Plan plan;
  plan.declaration.name = "t", plan.declaration.benchmark = "three", plan.declaration.grader = "gsm8k";
  plan.declaration.contrasts = {{"wise", "vote", true, 0.03}};
  for (const char* gold : {"1", "2", "3"}) {
    benchmark::Item item;
    item.id = std::string("q") + gold, item.question = gold, item.answer = gold;
    plan.items.push_back(item);
  }
  for (const char* arm : {"wise", "vote"}) {
    plan.arms.push_back({arm, {}});
    plan.arms.back().request.set_graph_name(arm);
  }
  plan.grader = grade::MakeGrader("gsm8k").value();
  return plan;
}

TEST(Runner, RunsEveryArmOnEveryItemWithSharedSeeds) {
  const Plan plan = TestPlan();
  FakeDeliberator fake;
  std::atomic<bool> stop{false};
  const ManualClock clock;
  Progress last;
  ASSERT_OK(RunAll(plan, fake, stop, clock, [&](const Progress& p) { last = p; }));
  EXPECT_EQ(last.done, 6u);
  EXPECT_EQ(last.total, 6u);
  EXPECT_EQ(last.arms[0].correct, 3u);
  EXPECT_EQ(last.arms[1].correct, 0u);
  for (const auto& [item, seeds] : fake.seeds_) EXPECT_EQ(seeds.size(), 1u) << "arms share random numbers on " << item;
}

TEST(Runner, CallsArePricedByTheList) {
  Plan plan = TestPlan();
  RunRecord record;
  for (const char* member : {"a", "a", "b"}) {
    auto* call = record.events.emplace_back().mutable_call_finished();
    call->mutable_key()->set_member(member);
    call->mutable_usage()->set_prompt_token_count(1000);
    call->mutable_usage()->set_cached_prompt_token_count(600);
    call->mutable_usage()->set_output_token_count(100);
  }
  EXPECT_EQ(GradeRun(plan, {}, record).outcome.usd, 0);
  plan.prices["a"].set_input(2);
  plan.prices["a"].set_output(10);
  plan.prices["a"].set_cached_input(0.5);
  EXPECT_EQ(GradeRun(plan, {}, record).outcome.usd, 0) << "b has no price";
  plan.prices["b"].set_input(1);
  plan.prices["b"].set_output(3);
  // Per call of a: 400 at 2, 600 at 0.5, 100 at 10 per million; of b: 1,000 at 1, 100 at 3.
  EXPECT_NEAR(GradeRun(plan, {}, record).outcome.usd, 1e-6 * (2 * (800 + 300 + 1000) + 1000 + 300), 1e-15);
}

TEST(Runner, CallsLostForGoodAreCounted) {
  RunRecord record;
  for (const bool retried : {true, false, false}) {
    record.events.emplace_back().mutable_call_lost()->set_will_retry(retried);
  }
  record.events.emplace_back().mutable_call_lost()->set_code(static_cast<int>(absl::StatusCode::kCancelled));
  record.events.emplace_back().mutable_run_finished()->mutable_ledger()->set_calls(5);
  const Outcome outcome = GradeRun(TestPlan(), {}, record).outcome;
  EXPECT_EQ(outcome.calls, 5);
  EXPECT_EQ(outcome.lost_calls, 2);
}

TEST(Runner, ALostOrchestratorIsAnErrorThatALaterRunMends) {
  const Plan plan = TestPlan();
  FakeDeliberator fake;
  fake.fail_on_ = 3;
  std::atomic<bool> stop{false};
  const ManualClock clock;
  EXPECT_THAT(RunAll(plan, fake, stop, clock, {}), testing::StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(fake.records_.size(), 2u);
  ASSERT_OK(RunAll(plan, fake, stop, clock, {}));
  EXPECT_EQ(fake.records_.size(), 6u);
}

TEST(Runner, StopsWhenAsked) {
  const Plan plan = TestPlan();
  FakeDeliberator fake;
  std::atomic<bool> stop{false};
  const ManualClock clock;
  EXPECT_THAT(RunAll(plan, fake, stop, clock, [&](const Progress& p) { stop = p.done == 2; }),
              testing::StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(fake.stopped_);
  EXPECT_EQ(fake.records_.size(), 2u);
}

TEST(Runner, ABudgetEndsItKeepsWhatIsDoneAndALargerOneGoesOn) {
  Plan plan = TestPlan();
  plan.budget.set_output_tokens(15);  // a run makes 7: the third passes it
  FakeDeliberator fake;
  std::atomic<bool> stop{false};
  const ManualClock clock;
  const auto used_up = RunAll(plan, fake, stop, clock, {});
  ASSERT_OK(used_up);
  EXPECT_EQ(*used_up, "output_tokens: 21 of 15 are used");
  EXPECT_EQ(fake.records_.size(), 3u);
  EXPECT_FALSE(fake.stopped_);
  testing::TempDir dir;
  ASSERT_OK(Export(plan, fake, dir.path()));
  EXPECT_EQ(ReadOutcomes(dir.Path("outcomes.jsonl"), "x")->size(), 3u);

  // What was done counts again, without being done again.
  EXPECT_EQ(RunAll(plan, fake, stop, clock, {}).value(), *used_up);
  EXPECT_EQ(fake.records_.size(), 3u);
  plan.budget.set_output_tokens(42);  // used up by the last run: nothing is missing
  EXPECT_EQ(RunAll(plan, fake, stop, clock, {}).value(), "");
  EXPECT_EQ(fake.records_.size(), 6u);
}

TEST(Runner, ABudgetThatEndsItInItsFirstRunIsStillExported) {
  Plan plan = TestPlan();
  plan.budget.set_calls(1);
  FakeDeliberator fake;
  std::atomic<bool> stop{false};
  const ManualClock clock;
  EXPECT_EQ(RunAll(plan, fake, stop, clock, {}).value(), "calls: 1 of 1 are used");
  EXPECT_EQ(fake.records_.size(), 1u);
  testing::TempDir dir;
  ASSERT_OK(Export(plan, fake, dir.path()));
  const auto summary = nlohmann::json::parse(ReadFile(dir.Path("summary.json")).value());
  EXPECT_TRUE(summary["contrasts"].empty());
  EXPECT_THAT(summary["warnings"].dump(), HasSubstr("wise - vote: not compared"));
}

TEST(Runner, WhenTimeIsUpWhatIsInFlightIsStoppedAndNotAnError) {
  Plan plan = TestPlan();
  plan.budget.mutable_wall_time()->set_seconds(60);
  FakeDeliberator fake;
  fake.hold_on_ = 3;
  std::atomic<bool> stop{false};
  ManualClock clock;
  const auto used_up = RunAll(plan, fake, stop, clock, [&](const Progress& p) {
    if (p.done == 4) clock.AdvanceNs(int64_t{60} * 1'000'000'000);
  });
  ASSERT_OK(used_up);
  EXPECT_EQ(*used_up, "wall_time: 60 s are over");
  EXPECT_TRUE(fake.stopped_);
  EXPECT_EQ(fake.records_.size(), 4u);
}

TEST(Runner, StopsWhileItWaitsForTheLastRuns) {
  const Plan plan = TestPlan();
  FakeDeliberator fake;
  fake.hold_on_ = 2;
  std::atomic<bool> stop{false};
  const ManualClock clock;
  EXPECT_THAT(RunAll(plan, fake, stop, clock, [&](const Progress& p) { stop = p.done == 5; }),
              testing::StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(fake.stopped_);
  EXPECT_EQ(fake.records_.size(), 5u);
}

TEST(Export, WritesWhatIsThereAndNothingElse) {
  const Plan plan = TestPlan();
  FakeDeliberator fake;
  testing::TempDir dir;
  EXPECT_THAT(Export(plan, fake, dir.path()),
              testing::StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no run has finished")));
  std::atomic<bool> stop{false};
  const ManualClock clock;
  ASSERT_OK(RunAll(plan, fake, stop, clock, {}));
  ASSERT_OK(Export(plan, fake, dir.path()));

  const auto rows = ReadOutcomes(dir.Path("outcomes.jsonl"), "x");
  ASSERT_OK(rows);
  EXPECT_EQ(rows->size(), 6u);
  const auto summary = nlohmann::json::parse(ReadFile(dir.Path("summary.json")).value());
  EXPECT_EQ(summary["contrasts"][0]["difference"], 1.0);
  // Own answers: big and m0 always right, m1 and m2 always wrong with the same answer.
  EXPECT_EQ(summary["group"]["members"].size(), 4u);
  EXPECT_EQ(summary["group"]["oracle"], 1.0);
  EXPECT_EQ(summary["group"]["same_wrong"], 1.0);
  // The vote's curve: one of three votes is right, so maj@1 = 1/3 and maj@3 = 0.
  EXPECT_EQ(summary["curves"][0]["arm"], "vote");
  EXPECT_NEAR(summary["curves"][0]["points"][0]["accuracy"].get<double>(), 1.0 / 3, 1e-12);
  EXPECT_EQ(summary["curves"][0]["points"][2]["accuracy"], 0.0);
  EXPECT_EQ(summary["curves"][0]["points"][0]["cost"], 10.0);
  const std::string transcripts = ReadFile(dir.Path("transcripts.jsonl")).value();
  EXPECT_EQ(std::count(transcripts.begin(), transcripts.end(), '\n'), 3 * (1 + 3));
  EXPECT_THAT(transcripts, HasSubstr("\"member\":\"big\""));
}

TEST(GradeRun, AFailedRunIsFailedAndACutOneTruncated) {
  const Plan plan = TestPlan();
  RunRecord record;
  auto* finished = record.events.emplace_back().mutable_run_finished();
  finished->set_state(deliberation::v1::RUN_STATE_FAILED);
  EXPECT_EQ(GradeRun(plan, {}, record).outcome.kind, OutcomeKind::kFailed);

  record.events.clear();
  auto* call = record.events.emplace_back().mutable_call_finished();
  call->set_text("I was still thinking");
  call->set_finish_reason(inference::v1::FINISH_REASON_LENGTH);
  finished = record.events.emplace_back().mutable_run_finished();
  finished->set_state(deliberation::v1::RUN_STATE_SUCCEEDED);
  finished->set_text("I was still thinking");
  EXPECT_EQ(GradeRun(plan, {}, record).outcome.kind, OutcomeKind::kTruncated);
}

}  // namespace
}  // namespace conclave::experiment
