// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/arithmetic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;

void ExpectRight(std::string_view text, int32_t equations) {
  const ArithmeticCheck check = CheckArithmetic(text);
  EXPECT_EQ(check.equations, equations) << text;
  EXPECT_THAT(check.wrong, ElementsAre()) << text;
}

TEST(Arithmetic, RightEquations) {
  ExpectRight("3 + 4 = 7", 1);
  ExpectRight("He pays $1,250 - $250 = $1,000.", 1);
  ExpectRight("2 + 3 * 4 = 14 and 2 * 3 + 4 = 10", 2);
  ExpectRight("48/2=24, <<48+24=72>>", 2);
  ExpectRight("6 × 7 = 42; 42 ÷ 6 = 7; 10 − 3 = 7", 3);
  ExpectRight("20% * 50 = 10", 1);
  ExpectRight("0.1 + 0.2 = 0.3", 1);
  ExpectRight("5 x 3 = 15", 1);
  ExpectRight("2 * 3 = 6 + 1 = 7", 1);  // the first is not a result: it goes on; the second is
}

TEST(Arithmetic, RoundedResultsMayBeRounded) {
  ExpectRight("10 / 3 = 3.33", 1);
  ExpectRight("2 / 3 = 66.7%", 1);
  EXPECT_EQ(CheckArithmetic("10 / 3 = 3.34").wrong.size(), 1u);
  EXPECT_EQ(CheckArithmetic("10 / 3 = 3").wrong.size(), 1u);
}

TEST(Arithmetic, WrongEquationsSayWhatIsRight) {
  EXPECT_THAT(CheckArithmetic("3 + 4 = 8").wrong, ElementsAre("3 + 4 = 8: 3 + 4 is 7"));
  EXPECT_THAT(CheckArithmetic("1 + 1 = 2, 7 * 8 = 54, 9 - 1 = 8").wrong, ElementsAre("7 * 8 = 54: 7 * 8 is 56"));
  EXPECT_THAT(CheckArithmetic("5 / 2 = 2").wrong, ElementsAre("5 / 2 = 2: 5 / 2 is 2.5"));
  EXPECT_THAT(CheckArithmetic("99999999999999999999 + 1 = 99999999999999999999").wrong.size(), 1u);
}

TEST(Arithmetic, WhatIsNoEquationIsSkipped) {
  ExpectRight("", 0);
  ExpectRight("x = 3 and y = 4", 0);
  ExpectRight("7 days = 1 week", 0);
  ExpectRight("(2 + 3) * 4 = 20", 0);
  ExpectRight("5 = 5", 0);
  ExpectRight("1 / 0 = 3", 0);
  ExpectRight("3 + 4", 0);
  ExpectRight("3 + 4 =", 0);
  ExpectRight("2^3 + 1 = 9", 0);
}

}  // namespace
}  // namespace conclave::orchestrator
