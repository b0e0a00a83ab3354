// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/ledger/budget.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using deliberation::v1::Budget;

TEST(BudgetAccount, LetsThroughUpToTheLimitAndNotOneMore) {
  for (const char* unit : {"calls", "prompt_tokens", "output_tokens", "flops"}) {
    const std::string name = unit;
    Budget budget;
    if (name == "calls") budget.set_calls(100);
    if (name == "prompt_tokens") budget.set_prompt_tokens(100);
    if (name == "output_tokens") budget.set_output_tokens(100);
    if (name == "flops") budget.set_flops(100);
    const auto amount = [&](int64_t n) {
      Amount a;
      if (name == "calls") a.calls = n;
      if (name == "prompt_tokens") a.prompt_tokens = n;
      if (name == "output_tokens") a.output_tokens = n;
      if (name == "flops") a.flops = static_cast<double>(n);
      return a;
    };
    BudgetAccount account;
    ASSERT_OK(account.AddLimit("graph", budget));
    EXPECT_FALSE(account.Reserve(amount(60)).has_value()) << name;
    EXPECT_TRUE(account.Reserve(amount(41)).has_value()) << name;
    EXPECT_FALSE(account.Reserve(amount(40)).has_value()) << name;
    const auto refused = account.Reserve(amount(1));
    ASSERT_TRUE(refused.has_value()) << name;
    EXPECT_EQ(refused->unit, name);
    EXPECT_EQ(refused->budget, "graph");
    EXPECT_EQ(refused->limit, 100);
    EXPECT_EQ(refused->needed, 101);
  }
}

TEST(BudgetAccount, SettlingReplacesTheReservationByTheUse) {
  Budget budget;
  budget.set_output_tokens(100);
  BudgetAccount account;
  ASSERT_OK(account.AddLimit("graph", budget));
  EXPECT_FALSE(account.Reserve({1, 10, 80, 0}).has_value());
  EXPECT_TRUE(account.Reserve({1, 10, 80, 0}).has_value());
  EXPECT_TRUE(account.FitsWithoutReservations({1, 10, 80, 0}));
  account.Settle({1, 10, 80, 0}, {1, 12, 20, 0});
  EXPECT_EQ(account.spent(), (Amount{1, 12, 20, 0}));
  EXPECT_EQ(account.reserved(), Amount{});
  EXPECT_FALSE(account.Reserve({1, 10, 80, 0}).has_value());
  EXPECT_FALSE(account.FitsWithoutReservations({1, 10, 81, 0}));
}

TEST(BudgetAccount, EveryNestedLimitCounts) {
  Budget outer;
  outer.set_calls(3);
  Budget inner;
  inner.set_calls(5);
  inner.set_output_tokens(50);
  inner.set_on_exhausted(Budget::RETURN_BEST);
  BudgetAccount account;
  ASSERT_OK(account.AddLimit("request", outer));
  ASSERT_OK(account.AddLimit("graph", inner));
  EXPECT_FALSE(account.Reserve({2, 0, 50, 0}).has_value());
  auto refused = account.Reserve({1, 0, 1, 0});
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->budget, "graph");
  EXPECT_EQ(refused->on_exhausted, Budget::RETURN_BEST);
  refused = account.Reserve({2, 0, 0, 0});
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->budget, "request");
  EXPECT_EQ(refused->on_exhausted, Budget::FAIL);
}

TEST(BudgetAccount, RefusesLimitsThatAreNone) {
  Budget budget;
  budget.set_calls(-1);
  EXPECT_THAT(BudgetAccount().AddLimit("graph", budget), testing::StatusIs(absl::StatusCode::kInvalidArgument));
  budget.Clear();
  budget.set_flops(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(BudgetAccount().AddLimit("graph", budget), testing::StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Ledger, SumsCallsAndMarksWhatWasDiscarded) {
  inference::v1::Usage usage;
  usage.set_prompt_token_count(10);
  usage.set_cached_prompt_token_count(4);
  usage.set_output_token_count(7);
  usage.set_flop_count(1000);
  usage.set_saved_flop_count(300);
  usage.mutable_decode_time()->set_nanos(500'000'000);
  deliberation::v1::Ledger ledger;
  AddToLedger(usage, false, false, &ledger);
  EXPECT_FALSE(ledger.estimated());
  AddToLedger(usage, true, true, &ledger);
  EXPECT_EQ(ledger.calls(), 2);
  EXPECT_EQ(ledger.prompt_tokens(), 20);
  EXPECT_EQ(ledger.cached_tokens(), 8);
  EXPECT_EQ(ledger.output_tokens(), 14);
  EXPECT_EQ(ledger.discarded_tokens(), 7);
  EXPECT_EQ(ledger.flops(), 2000);
  EXPECT_EQ(ledger.saved_flops(), 600);
  EXPECT_EQ(ledger.worker_seconds(), 1.0);
  EXPECT_TRUE(ledger.estimated());
}

}  // namespace
}  // namespace conclave::orchestrator
