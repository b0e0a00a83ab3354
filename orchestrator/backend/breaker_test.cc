// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/breaker.h"

#include <gtest/gtest.h>

#include <string_view>

namespace conclave::orchestrator {
namespace {

using Pass = Breaker::Pass;

constexpr BreakerOptions kOptions = {
    .failures = 3, .window = 8, .window_failures = 4, .pause_ns = 100, .pause_max_ns = 350};

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
  EXPECT_EQ(breaker.Why(), "3 failures in a row");
}

TEST(Breaker, OpensWhenHalfOfTheLastCallsFailed) {
  // F S F S F S S F: four of eight, never two in a row. The first seven are too few to say anything.
  Breaker breaker(kOptions);
  const auto play = [&](std::string_view ends) {
    for (const char end : ends) {
      end == 'F' ? breaker.Failed(Pass::kYes, 1000) : breaker.Succeeded(Pass::kYes);
    }
  };
  play("FSFSFSS");
  EXPECT_FALSE(breaker.open());
  play("F");
  EXPECT_TRUE(breaker.open());
  EXPECT_EQ(breaker.Why(), "4 failures in 8 calls");
  // One failure less in the window: what is further back does not count.
  Breaker other(kOptions);
  for (const char end : std::string_view("FSFSSFSSF")) {
    EXPECT_FALSE(other.open());
    end == 'F' ? other.Failed(Pass::kYes, 1000) : other.Succeeded(Pass::kYes);
  }
  EXPECT_FALSE(other.open()) << "three in the last eight";
}

TEST(Breaker, ByDefaultAsTheSpecificationSays) {
  constexpr int64_t kSecond = 1'000'000'000;
  Breaker breaker{BreakerOptions{}};
  for (int i = 0; i < 9; ++i) breaker.Failed(Pass::kYes, 0);
  EXPECT_FALSE(breaker.open());
  breaker.Failed(Pass::kYes, 0);
  EXPECT_TRUE(breaker.open());
  EXPECT_EQ(breaker.Ask(30 * kSecond - 1), Pass::kNo);
  EXPECT_EQ(breaker.Ask(30 * kSecond), Pass::kTrial);
  breaker.Failed(Pass::kTrial, 30 * kSecond);
  EXPECT_EQ(breaker.closed_until_ns(), 60 * kSecond) << "no longer than the first time";
  // Half of twenty, one by one.
  Breaker half{BreakerOptions{}};
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(half.open());
    half.Succeeded(Pass::kYes);
    half.Failed(Pass::kYes, 0);
  }
  EXPECT_TRUE(half.open());
  Breaker less{BreakerOptions{}};
  less.Succeeded(Pass::kYes);
  for (int i = 0; i < 100; ++i) i % 20 < 18 && i % 2 == 1 ? less.Failed(Pass::kYes, 0) : less.Succeeded(Pass::kYes);
  EXPECT_FALSE(less.open()) << "nine of every twenty";
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
