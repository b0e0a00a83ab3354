// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/spending.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::experiment {
namespace {

using deliberation::v1::Budget;
using ::testing::StartsWith;

Outcome Of(double prompt, double output, double calls, double flops) {
  Outcome run;
  run.prompt_tokens = prompt, run.output_tokens = output, run.calls = calls, run.flops = flops;
  return run;
}

TEST(Spending, WithoutALimitNothingIsEverUsedUp) {
  Spending spending(Budget(), 0);
  spending.Add(Of(1e15, 1e15, 1e15, 1e30));
  EXPECT_EQ(spending.UsedUp(), "");
  EXPECT_EQ(spending.TimeIsUp(int64_t{1} << 62), "");
}

TEST(Spending, EveryUnitHoldsBelowItsLimitAndIsUsedUpAtIt) {
  struct Case {
    const char* unit;
    Outcome below, last;
  };
  Budget all;
  all.set_prompt_tokens(100), all.set_output_tokens(50), all.set_calls(10), all.set_flops(1e12);
  for (const Case& c :
       {Case{"prompt_tokens", Of(99, 0, 0, 0), Of(1, 0, 0, 0)}, Case{"output_tokens", Of(0, 49, 0, 0), Of(0, 1, 0, 0)},
        Case{"calls", Of(0, 0, 9, 0), Of(0, 0, 1, 0)}, Case{"flops", Of(0, 0, 0, 9e11), Of(0, 0, 0, 1e11)}}) {
    Spending spending(all, 0);
    spending.Add(c.below);
    EXPECT_EQ(spending.UsedUp(), "") << c.unit;
    spending.Add(c.last);
    EXPECT_THAT(spending.UsedUp(), StartsWith(std::string(c.unit) + ": ")) << c.unit;
  }
}

TEST(Spending, ALimitOfZeroIsUsedUpBeforeTheFirstRun) {
  Budget none;
  none.set_calls(0);
  EXPECT_EQ(Spending(none, 0).UsedUp(), "calls: 0 of 0 are used");
}

TEST(Spending, TimeCountsFromTheBegin) {
  Budget budget;
  budget.mutable_wall_time()->set_seconds(2);
  budget.mutable_wall_time()->set_nanos(5);
  const Spending spending(budget, 1'000);
  EXPECT_EQ(spending.TimeIsUp(1'000 + 2'000'000'004), "");
  EXPECT_THAT(spending.TimeIsUp(1'000 + 2'000'000'005), StartsWith("wall_time: "));
}

}  // namespace
}  // namespace conclave::experiment
