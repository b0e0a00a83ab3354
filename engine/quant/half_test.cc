// SPDX-License-Identifier: Apache-2.0
#include "engine/quant/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace conclave::engine::quant {
namespace {

// The value of a half by its definition.
double HalfByDefinition(uint16_t half) {
  const int exponent = (half >> 10) & 31, mantissa = half & 1023;
  const double sign = half >> 15 ? -1 : 1;
  if (exponent == 31) return mantissa ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

TEST(Half, EveryHalfToFloatAndBack) {
  for (uint32_t i = 0; i <= 0xffff; ++i) {
    const uint16_t half = static_cast<uint16_t>(i);
    const double expected = HalfByDefinition(half);
    const float value = HalfToFloat(half);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(value))));
      continue;
    }
    ASSERT_EQ(value, expected) << i;
    ASSERT_EQ(std::signbit(value), std::signbit(expected)) << i;
    ASSERT_EQ(FloatToHalf(value), half) << i;
  }
}

// Between neighbouring halves: the nearer one, at the middle the even one.
TEST(Half, RoundsToNearestEven) {
  for (uint32_t i = 0; i < 0x7bff; ++i) {
    const float a = HalfToFloat(static_cast<uint16_t>(i)), b = HalfToFloat(static_cast<uint16_t>(i + 1));
    const float middle = a + (b - a) / 2;
    ASSERT_EQ(FloatToHalf(middle), i % 2 == 0 ? i : i + 1) << i;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, a)), i) << i;
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, b)), i + 1) << i;
  }
  EXPECT_EQ(FloatToHalf(65519.0f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToHalf(-1e30f), 0xfc00);
}

TEST(Bfloat16, RoundsToNearestEven) {
  EXPECT_EQ(Bfloat16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(FloatToBfloat16(1.0f), 0x3f80);
  EXPECT_EQ(FloatToBfloat16(1.0f + 0x1p-8f), 0x3f80);            // the middle: to even
  EXPECT_EQ(FloatToBfloat16(1.0f + 0x1p-7f + 0x1p-8f), 0x3f82);  // the middle: to even
  EXPECT_EQ(FloatToBfloat16(std::nextafter(1.0f + 0x1p-8f, 2.0f)), 0x3f81);
  EXPECT_TRUE(std::isnan(Bfloat16ToFloat(FloatToBfloat16(std::nanf("")))));
  EXPECT_EQ(FloatToBfloat16(std::numeric_limits<float>::max()), 0x7f80);
}

}  // namespace
}  // namespace conclave::engine::quant
