// SPDX-License-Identifier: Apache-2.0
#include "engine/quant/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "engine/quant/blocks.h"

namespace conclave::engine::quant {
namespace {

// What the `gguf` Python package's quants.dequantize (0.19.0, float32) makes of 64 pseudo-random blocks: FNV-1a of the
// floats' bytes, and elements 0, 1, 16 and the last of the first block.
struct Golden {
  DType dtype;
  uint64_t hash;
  float elements[4];
};
constexpr Golden kGoldens[] = {
    {DType::kQ4_0, 0x159b86fa8abb8d44u, {0.0692596436f, 0.0461730957f, -0.184692383f, -0.0461730957f}},
    {DType::kQ4_1, 0x9e9335ea237c52a5u, {0.162124634f, 0.0236053467f, 0.139038086f, 0.346817017f}},
    {DType::kQ5_0, 0x55316968c849470cu, {0.0461730957f, 0.0692596436f, -0.32321167f, 0.0461730957f}},
    {DType::kQ5_1, 0xb39c31477703a7a7u, {0.139038086f, 0.554595947f, 0.208297729f, 0.346817017f}},
    {DType::kQ8_0, 0x61eefa4d4a6a0354u, {0.253952026f, 0.230865479f, -2.58569336f, -0.277038574f}},
    {DType::kQ4_K, 0x6fbb3c0641bdce31u, {1.40568542f, 2.42149353f, 1.91358948f, 5.9755249f}},
    {DType::kQ5_K, 0x55ac216ed5be560du, {9.53215027f, 14.1032867f, 3.94520569f, 11.5162964f}},
    {DType::kQ6_K, 0x87131107f925474eu, {6.20788574f, -22.1710205f, -15.5862274f, -45.3175659f}},
    {DType::kQ2_K, 0xe6ef109a66327c4bu, {0.204299927f, -0.217300415f, -0.152893066f, 0.0650634766f}},
    {DType::kQ3_K, 0xcefc37c72e4ad757u, {0.0f, 0.0f, -0.0562133789f, -0.243591309f}},
    {DType::kIQ4_NL, 0xf5bf3dba6e6781ccu, {0.877288818f, 0.577163696f, -2.93199158f, -0.507904053f}},
    {DType::kIQ4_XS, 0x31a0642e9619c888u, {-17.7766418f, -5.07904053f, 0.507904053f, 42.0175171f}},
    {DType::kMXFP4, 0x1b70589567377f4bu, {2.43388915e+32f, -1.21694458e+32f, 8.11296384e+31f, -3.24518554e+32f}},
};

constexpr int kBlocks = 64;

// xorshift32 bytes; the scales' high bytes are made finite halves of about 2^-6.
std::vector<std::byte> PseudoRandomBlocks(DType dtype) {
  const size_t size = static_cast<size_t>(Traits(dtype).block_bytes);
  std::vector<std::byte> bytes(kBlocks * size);
  uint32_t state = 2463534242u;
  for (std::byte& byte : bytes) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    byte = static_cast<std::byte>(state >> 11);
  }
  const bool two_halves = dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || dtype == DType::kQ4_K ||
                          dtype == DType::kQ5_K || dtype == DType::kQ2_K;
  const size_t halves_at = dtype == DType::kQ6_K ? 208 : dtype == DType::kQ2_K ? 80 : dtype == DType::kQ3_K ? 108 : 0;
  for (size_t block = 0; block < kBlocks; ++block) {
    std::byte* half = bytes.data() + block * size + halves_at;
    for (int i = 0; i <= (two_halves ? 1 : 0); ++i)
      half[2 * i + 1] = (half[2 * i + 1] & std::byte{0x83}) | std::byte{0x24};
  }
  return bytes;
}

uint64_t Fnv1a(std::span<const float> values) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const std::byte byte : std::as_bytes(values)) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3u;
  return hash;
}

TEST(DecodeRow, EqualsGgmlBitForBit) {
  for (const Golden& golden : kGoldens) {
    const size_t elements = static_cast<size_t>(Traits(golden.dtype).block_elements);
    std::vector<float> values(kBlocks * elements);
    DecodeRow(golden.dtype, PseudoRandomBlocks(golden.dtype).data(), values);
    const float first[] = {values[0], values[1], values[16], values[elements - 1]};
    EXPECT_THAT(first, ::testing::ElementsAreArray(golden.elements)) << Name(golden.dtype);
    EXPECT_EQ(Fnv1a(values), golden.hash) << Name(golden.dtype);
  }
}

// Codes are rounded to the nearest, so no element is further off than half a step, plus what rounding the scale to a
// half, and to 6 or 8 bits in K-quants, may add.
TEST(EncodeRow, ErrorIsAboutHalfAStep) {
  constexpr uint32_t kSeed = 5;
  std::printf("seed %u\n", kSeed);
  std::mt19937 rng(kSeed);
  std::normal_distribution<float> normal(0.1f, 1.0f);
  struct Case {
    DType dtype;
    double rms_max;  // relative to the values' own
  };
  // Half a step of uniform error is step / sqrt(12), the step about 2 x 2.4 sigma / codes for a block of 32.
  const Case cases[] = {{DType::kF32, 0},      {DType::kF16, 3e-4},    {DType::kBF16, 3e-3},   {DType::kQ4_0, 0.12},
                        {DType::kQ4_1, 0.09},  {DType::kQ5_0, 0.05},   {DType::kQ5_1, 0.045},  {DType::kQ8_0, 0.007},
                        {DType::kQ4_K, 0.095}, {DType::kQ5_K, 0.05},   {DType::kQ6_K, 0.03},   {DType::kQ2_K, 0.45},
                        {DType::kQ3_K, 0.25},  {DType::kIQ4_NL, 0.12}, {DType::kIQ4_XS, 0.12}, {DType::kMXFP4, 0.16}};
  for (const Case& c : cases) {
    std::vector<float> values(2048), back(2048);
    for (float& v : values) v = normal(rng);
    std::vector<std::byte> row(static_cast<size_t>(RowBytes(c.dtype, 2048)));
    EncodeRow(c.dtype, values, row.data());
    DecodeRow(c.dtype, row.data(), back);
    double error = 0, power = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      error += std::pow(double{values[i]} - back[i], 2);
      power += std::pow(double{values[i]}, 2);
    }
    EXPECT_LE(std::sqrt(error / power), c.rms_max) << Name(c.dtype);
  }
}

TEST(EncodeRow, ZerosStayZero) {
  for (const DType dtype :
       {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K,
        DType::kQ2_K, DType::kQ3_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4}) {
    std::vector<float> values(256), back(256, 1.0f);
    std::vector<std::byte> row(static_cast<size_t>(RowBytes(dtype, 256)));
    EncodeRow(dtype, values, row.data());
    DecodeRow(dtype, row.data(), back);
    EXPECT_THAT(back, ::testing::Each(0.0f)) << Name(dtype);
  }
}

// OCP Microscaling Formats 1.0: the sixteen 4-bit floats, and powers of two from 2^-127 on.
TEST(DecodeRow, MicroscaledFloats) {
  const float floats[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6};
  for (const int exponent : {0, 1, 2, 100, 127, 130, 254}) {
    BlockMXFP4 block = {static_cast<uint8_t>(exponent), {}};
    for (int j = 0; j < 16; ++j) block.q[j] = static_cast<uint8_t>(j | (15 - j) << 4);
    std::vector<float> values(32);
    DecodeRow(DType::kMXFP4, reinterpret_cast<const std::byte*>(&block), values);
    for (int j = 0; j < 16; ++j) {
      EXPECT_EQ(values[j], std::ldexp(floats[j], exponent - 127)) << exponent;
      EXPECT_EQ(values[j + 16], std::ldexp(floats[15 - j], exponent - 127)) << exponent;
    }
  }
}

TEST(CanDecode, NamesWhatIsSupported) {
  EXPECT_TRUE(CanDecode(DType::kQ4_K));
  EXPECT_TRUE(CanDecode(DType::kIQ4_XS));
  EXPECT_FALSE(CanDecode(DType::kF8_E4M3));
  EXPECT_FALSE(CanDecode(DType::kI32));
}

}  // namespace
}  // namespace conclave::engine::quant
