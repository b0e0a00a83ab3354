// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "engine/quant/codec.h"
#include "engine/quant/group_blocks.h"
#include "engine/quant/grouped_rows.h"

namespace conclave::engine::quant {
namespace {

constexpr DType kGroupFormats[] = {DType::kInt4_G32, DType::kInt4_G64,  DType::kInt4_G128,
                                   DType::kInt8_G32, DType::kInt8_G128, DType::kFp8_G128};

// The OCP definition: sign, four bits of exponent of bias 7, three of fraction; exponent 0 has no leading bit.
double Fp8ByDefinition(int code) {
  const int exponent = (code >> 3) & 15, fraction = code & 7;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(1 + fraction / 8.0, exponent - 7);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

TEST(Fp8, EveryCodeByDefinition) {
  for (int code = 0; code < 256; ++code) {
    const auto c = static_cast<uint8_t>(code);
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(IsFp8Nan(c) && std::isnan(Fp8ToFloat(c)));
      continue;
    }
    EXPECT_EQ(Fp8ToFloat(c), Fp8ByDefinition(code)) << code;
    EXPECT_EQ(std::signbit(Fp8ToFloat(c)), code >= 128);
    EXPECT_EQ(FloatToFp8(Fp8ToFloat(c)), c);
  }
  EXPECT_EQ(Fp8ToFloat(0x7e), 448.0f);
}

// The midpoint of two codes goes to the even one, what lies beside it to the nearer.
TEST(Fp8, RoundsToTheNearestCode) {
  for (int code = 0; code < 0x7e; ++code) {
    const float low = Fp8ToFloat(static_cast<uint8_t>(code)), high = Fp8ToFloat(static_cast<uint8_t>(code + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(FloatToFp8(middle), code % 2 == 0 ? code : code + 1);
    EXPECT_EQ(FloatToFp8(std::nextafter(middle, 0.0f)), code);
    EXPECT_EQ(FloatToFp8(std::nextafter(middle, 1000.0f)), code + 1);
  }
  EXPECT_EQ(FloatToFp8(1e9f), 0x7e);
  EXPECT_EQ(FloatToFp8(-1e9f), 0xfe);
}

TEST(Fp8, TheFirstNotANumberIsFound) {
  std::vector<std::byte> codes(10000, std::byte{0x7e});
  EXPECT_EQ(FindFp8Nan(codes), std::nullopt);
  for (const size_t at : {9999u, 8192u, 8191u, 4097u, 0u}) {
    codes[at] = at % 2 == 0 ? std::byte{0xff} : std::byte{0x7f};
    EXPECT_EQ(FindFp8Nan(codes), static_cast<int64_t>(at));
  }
  EXPECT_EQ(FindFp8Nan({}), std::nullopt);
}

TEST(GroupScale, HoldsEveryHalfAndBfloat16) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    for (const float scale : {HalfToFloat(half), Bfloat16ToFloat(half)}) {
      if (std::isnan(scale)) continue;
      ASSERT_TRUE(FitsGroupScale(scale)) << bits;
      EXPECT_EQ(MakeGroupScale(scale, 255).scale(), scale);
      EXPECT_EQ(MakeGroupScale(scale, 16).zero(), 16);
    }
  }
  EXPECT_FALSE(FitsGroupScale(0.1f));
}

TEST(GroupFormats, ValuesAreCodeMinusZeroTimesScale) {
  BlockInt4<64> four = {};
  four.scale = MakeGroupScale(0.25f, 3);
  four.q[17] = 0xe5;  // elements 33 and 49
  std::vector<float> values(64);
  DecodeRow(DType::kInt4_G64, reinterpret_cast<const std::byte*>(&four), values);
  EXPECT_EQ(values[0], -0.75f);
  EXPECT_EQ(values[33], (5 - 3) * 0.25f);
  EXPECT_EQ(values[49], (14 - 3) * 0.25f);

  BlockInt8<32> eight = {};
  eight.scale = MakeGroupScale(0.5f, 128);
  eight.q[31] = 255;
  values.resize(32);
  DecodeRow(DType::kInt8_G32, reinterpret_cast<const std::byte*>(&eight), values);
  EXPECT_EQ(values[0], -64.0f);
  EXPECT_EQ(values[31], 63.5f);
}

// Half a step of uniform error is step / sqrt(12), the step about 2 x 2.1 (of 32) to 2 x 2.7 (of 128) sigma / codes;
// e4m3 has steps of 2^-3 to 2^-4 of the value.
TEST(GroupFormats, EncodingErrsByAboutHalfAStep) {
  constexpr uint32_t kSeed = 6;
  std::printf("seed %u\n", kSeed);
  std::mt19937 rng(kSeed);
  std::normal_distribution<float> normal(0.1f, 1.0f);
  struct Case {
    DType dtype;
    int64_t elements;
    double rms_max;
  };
  const Case cases[] = {{DType::kInt4_G32, 2048, 0.095},    {DType::kInt4_G64, 2048, 0.105},
                        {DType::kInt4_G128, 2048, 0.12},    {DType::kInt8_G32, 2048, 0.0055},
                        {DType::kInt8_G128, 2048, 0.007},   {DType::kFp8_G128, 2048, 0.03},
                        {DType::kFp8_G128, 2048 + 77, 0.03}};
  for (const Case& c : cases) {
    std::vector<float> values(static_cast<size_t>(c.elements)), back(values.size());
    for (float& v : values) v = normal(rng);
    std::vector<std::byte> row(static_cast<size_t>(RowBytes(c.dtype, c.elements)));
    EncodeRow(c.dtype, values, row.data());
    DecodeRow(c.dtype, row.data(), back);
    double error = 0, power = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      error += std::pow(double{values[i]} - back[i], 2);
      power += std::pow(double{values[i]}, 2);
    }
    EXPECT_LE(std::sqrt(error / power), c.rms_max) << Name(c.dtype);
    EXPECT_GT(error, 0) << Name(c.dtype);
  }
}

TEST(GroupFormats, ZerosStayZero) {
  for (const DType dtype : kGroupFormats) {
    EXPECT_TRUE(CanDecode(dtype));
    std::vector<float> values(256), back(256, 1.0f);
    std::vector<std::byte> row(static_cast<size_t>(RowBytes(dtype, 256)));
    EncodeRow(dtype, values, row.data());
    DecodeRow(dtype, row.data(), back);
    EXPECT_THAT(back, ::testing::Each(0.0f)) << Name(dtype);
  }
}

}  // namespace
}  // namespace conclave::engine::quant
