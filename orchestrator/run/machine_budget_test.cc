// SPDX-License-Identifier: Apache-2.0
// Budgets at the limit and one above, in every unit, failing or returning the best.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using deliberation::v1::Budget;
using deliberation::v1::RUN_STATE_CANCELLED;
using deliberation::v1::RUN_STATE_FAILED;
using deliberation::v1::RUN_STATE_SUCCEEDED;

constexpr std::string_view kVote = R"(
name: "vote" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "verdict" pick { of: "draft" by: MAJORITY } }
)";

const std::vector<std::string> kMembers = {"m1", "m2", "m3", "m4"};

// Uses exactly what is reserved for it: 50 output tokens.
Reply Full(const CallSpec&) { return {Reply::Kind::kText, "#### 42", 50, 0.5}; }

RunLog WithBudget(const Budget& budget, const Answerer& answer = Full, const DriveOptions& options = {}) {
  const auto graph = MustCompile(kVote);
  RunSpec spec = SpecFor(*graph, kMembers);
  for (RunMember& member : spec.members) member.cost.flops_per_token = 1;
  spec.budgets.push_back({"request", budget});
  return Drive(graph, spec, answer, options);
}

TEST(MachineBudget, AtTheLimitEverythingIsDone) {
  Budget budget;
  budget.set_calls(4);
  budget.set_output_tokens(200);
  const RunLog log = WithBudget(budget);
  EXPECT_EQ(log.finished().state(), RUN_STATE_SUCCEEDED);
  EXPECT_FALSE(log.finished().best_effort());
  EXPECT_EQ(log.finished().ledger().calls(), 4);
}

TEST(MachineBudget, OneBelowFailsAndSaysWhich) {
  for (const std::string unit : {"calls", "output_tokens"}) {
    Budget budget;
    if (unit == "calls") budget.set_calls(3);
    if (unit == "output_tokens") budget.set_output_tokens(199);
    const RunLog log = WithBudget(budget);
    EXPECT_EQ(log.finished().state(), RUN_STATE_FAILED);
    EXPECT_EQ(log.finished().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
    EXPECT_THAT(log.finished().message(), ::testing::HasSubstr(unit));
    EXPECT_THAT(log.finished().message(), ::testing::HasSubstr("request"));
    EXPECT_EQ(log.finished().ledger().calls(), 3);
    bool told = false;
    for (const auto& event : log.events)
      told |= event.has_budget_exhausted() && event.budget_exhausted().unit() == unit;
    EXPECT_TRUE(told);
  }
}

TEST(MachineBudget, FlopsAndPromptTokensCountToo) {
  Budget budget;
  budget.set_flops(1);
  EXPECT_EQ(WithBudget(budget).finished().state(), RUN_STATE_FAILED);
  EXPECT_EQ(WithBudget(budget).finished().ledger().calls(), 0) << "what does not fit is not begun";
  budget.Clear();
  budget.set_prompt_tokens(100);
  EXPECT_EQ(WithBudget(budget).finished().ledger().calls(), 0);
}

TEST(MachineBudget, ReturnBestIsTheBestOfWhatThereIs) {
  Budget budget;
  budget.set_calls(2);
  budget.set_on_exhausted(Budget::RETURN_BEST);
  const RunLog log = WithBudget(budget);
  EXPECT_EQ(log.finished().state(), RUN_STATE_SUCCEEDED);
  EXPECT_TRUE(log.finished().best_effort());
  EXPECT_EQ(log.finished().answer(), "42");
  EXPECT_EQ(log.finished().hole_count(), 2);
  EXPECT_EQ(log.node("draft").hole_count(), 2);
}

TEST(MachineBudget, NothingAtAllToReturnIsAFailure) {
  Budget budget;
  budget.set_calls(0);
  budget.set_on_exhausted(Budget::RETURN_BEST);
  const RunLog log = WithBudget(budget);
  EXPECT_EQ(log.finished().state(), RUN_STATE_FAILED);
  EXPECT_EQ(log.finished().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
}

TEST(MachineBudget, ACallWaitsForWhatOthersGiveBack) {
  // 4 x 50 reserved do not fit into 120, but each uses only 20: two at a time, all of them in the end.
  Budget budget;
  budget.set_output_tokens(120);
  const RunLog log = WithBudget(budget, [](const CallSpec&) { return Reply{Reply::Kind::kText, "#### 42", 20, 0.5}; });
  EXPECT_EQ(log.finished().state(), RUN_STATE_SUCCEEDED);
  EXPECT_EQ(log.finished().ledger().output_tokens(), 80);
}

TEST(MachineBudget, GraphAndRequestAreNested) {
  const auto graph = MustCompile(fmt::format("{}budget {{ calls: 3 on_exhausted: RETURN_BEST }}", kVote));
  RunSpec spec = SpecFor(*graph, kMembers);
  EXPECT_EQ(Drive(graph, spec, Full).finished().ledger().calls(), 3);
  Budget request;
  request.set_calls(10);
  spec.budgets = {{"request", request}};
  EXPECT_EQ(Drive(graph, spec, Full).finished().ledger().calls(), 3) << "a request can only tighten";
  request.set_calls(1);
  request.set_on_exhausted(Budget::RETURN_BEST);
  spec.budgets = {{"request", request}};
  EXPECT_EQ(Drive(graph, spec, Full).finished().ledger().calls(), 1);
}

TEST(MachineBudget, WallTimeIsAskedForAndEndsTheRun) {
  Budget budget;
  budget.mutable_wall_time()->set_seconds(2);
  budget.mutable_wall_time()->set_nanos(5);
  const auto graph = MustCompile(kVote);
  RunSpec spec = SpecFor(*graph, kMembers);
  spec.budgets.push_back({"request", budget});
  auto machine = *Machine::Create(graph, spec);
  EXPECT_EQ(machine->Step(Start{})->wall_time_ns, 2'000'000'005);

  DriveOptions options;
  options.expire_after = 2;
  const RunLog failed = WithBudget(budget, Full, options);
  EXPECT_EQ(failed.finished().state(), RUN_STATE_FAILED);
  EXPECT_EQ(failed.finished().ledger().calls(), 4) << "cancelled calls are charged";
  EXPECT_EQ(failed.finished().ledger().discarded_tokens(), 100);
  budget.set_on_exhausted(Budget::RETURN_BEST);
  const RunLog best = WithBudget(budget, Full, options);
  EXPECT_EQ(best.finished().state(), RUN_STATE_SUCCEEDED);
  EXPECT_TRUE(best.finished().best_effort());
  EXPECT_EQ(best.finished().hole_count(), 2);
  EXPECT_EQ(best.finished().ledger().calls(), 4);
}

TEST(MachineBudget, CancellationWaitsForTheChargesOfWhatItCancels) {
  DriveOptions options;
  options.cancel_after = 1;
  const RunLog log = WithBudget({}, Full, options);
  EXPECT_EQ(log.finished().state(), RUN_STATE_CANCELLED);
  EXPECT_EQ(log.finished().code(), static_cast<int>(absl::StatusCode::kCancelled));
  EXPECT_EQ(log.finished().ledger().calls(), 4);
  EXPECT_EQ(log.finished().ledger().output_tokens(), 200);
  EXPECT_EQ(log.finished().ledger().discarded_tokens(), 150);
}

TEST(MachineBudget, AWorkersNonsenseCannotOverflowTheBooks) {
  const auto graph = MustCompile(kVote);
  auto machine = *Machine::Create(graph, SpecFor(*graph, kMembers));
  const Output out = *machine->Step(Start{});
  for (const CallSpec& call : out.calls) {
    CallFinished finished;
    finished.call = call.id;
    finished.text = "#### 1";
    finished.usage.set_prompt_token_count(std::numeric_limits<int64_t>::max());
    finished.usage.set_output_token_count(call.id % 2 == 0 ? std::numeric_limits<int64_t>::max() : -5);
    EXPECT_OK(machine->Step(finished));
  }
  EXPECT_TRUE(machine->finished());
  EXPECT_GT(machine->ledger().prompt_tokens(), 0);
}

}  // namespace
}  // namespace conclave::orchestrator
