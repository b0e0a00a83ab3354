// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/breaker.h"

#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

using Pass = Breaker::Pass;

constexpr BreakerOptions kOptions = {.failures = 3, .pause_ns = 100, .pause_max_ns = 350};

// One that has just been opened, at 1000.
Breaker Opened() {
  Breaker breaker(kOptions);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(breaker.Ask(1000), Pass::kYes);
    breaker.Failed(Pass::kYes, 1000);
  }
  return breaker;
}

TEST(Breaker, OpensAtTheLimitAndNotBelowIt) {
  Breaker breaker(kOptions);
  breaker.Failed(Pass::kYes, 1000);
  breaker.Failed(Pass::kYes, 1000);
  EXPECT_FALSE(breaker.open());
  breaker.Succeeded(Pass::kYes);  // failures count in a row
  breaker.Failed(Pass::kYes, 1000);
  breaker.Failed(Pass::kYes, 1000);
  EXPECT_EQ(breaker.Ask(1000), Pass::kYes);
  breaker.Failed(Pass::kYes, 1000);
  EXPECT_TRUE(breaker.open());
  EXPECT_EQ(breaker.failures(), 3);
}

TEST(Breaker, OneCallTriesAfterThePause) {
  Breaker breaker = Opened();
  EXPECT_EQ(breaker.closed_until_ns(), 1100);
  EXPECT_EQ(breaker.Ask(1099), Pass::kNo);
  EXPECT_EQ(breaker.Ask(1100), Pass::kTrial);
  EXPECT_EQ(breaker.Ask(5000), Pass::kNo);  // until the trial has ended
  breaker.Succeeded(Pass::kTrial);
  EXPECT_FALSE(breaker.open());
  EXPECT_EQ(breaker.Ask(1101), Pass::kYes);
  breaker.Failed(Pass::kYes, 1101);
  breaker.Failed(Pass::kYes, 1101);
  EXPECT_FALSE(breaker.open());
}

TEST(Breaker, FailedTrialsDoubleThePauseUpToItsLimit) {
  Breaker breaker = Opened();
  int64_t now_ns = 1100;
  for (const int64_t pause_ns : {200, 350, 350}) {
    ASSERT_EQ(breaker.Ask(now_ns), Pass::kTrial);
    breaker.Failed(Pass::kTrial, now_ns);
    EXPECT_EQ(breaker.closed_until_ns(), now_ns + pause_ns);
    now_ns += pause_ns;
  }
  ASSERT_EQ(breaker.Ask(now_ns), Pass::kTrial);
  breaker.Succeeded(Pass::kTrial);
  for (int i = 0; i < 3; ++i) breaker.Failed(Pass::kYes, now_ns);
  EXPECT_EQ(breaker.closed_until_ns(), now_ns + 100);  // from the beginning again
}

TEST(Breaker, CallsFromBeforeThePauseChangeNothing) {
  Breaker breaker = Opened();
  breaker.Failed(Pass::kYes, 1050);
  EXPECT_EQ(breaker.closed_until_ns(), 1100);
  breaker.Succeeded(Pass::kYes);
  EXPECT_TRUE(breaker.open());
  EXPECT_EQ(breaker.Ask(1099), Pass::kNo);
}

TEST(Breaker, AWithdrawnTrialLeavesThePlaceToTheNext) {
  Breaker breaker = Opened();
  EXPECT_EQ(breaker.Ask(1100), Pass::kTrial);
  breaker.Withdrawn(Pass::kTrial);
  EXPECT_EQ(breaker.Ask(1100), Pass::kTrial);
}

}  // namespace
}  // namespace conclave::orchestrator
