// SPDX-License-Identifier: Apache-2.0
#include "engine/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace conclave::engine {
namespace {

// Expected values: transformers 5.17, modeling_rope_utils.ROPE_INIT_FUNCTIONS, head width 32 (computed in float32).
void ExpectTable(const RopeParameters& parameters, const std::vector<double>& frequencies, double magnitude) {
  const RopeTable table = MakeRopeTable(parameters);
  ASSERT_EQ(table.inverse_frequency.size(), frequencies.size());
  for (size_t i = 0; i < frequencies.size(); ++i) {
    EXPECT_NEAR(table.inverse_frequency[i], frequencies[i], 2e-6 * frequencies[i]) << i;
  }
  EXPECT_NEAR(table.magnitude, magnitude, 1e-6);
}

TEST(Rope, PlainAndLinear) {
  const RopeTable plain = MakeRopeTable({.rotated = 8});
  const RopeTable linear = MakeRopeTable({.rotated = 8, .scaling = RopeScaling::kLinear, .factor = 4});
  ASSERT_EQ(plain.inverse_frequency.size(), 4u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(plain.inverse_frequency[i], static_cast<float>(std::pow(10000.0, -i / 4.0)));
    EXPECT_FLOAT_EQ(linear.inverse_frequency[i], plain.inverse_frequency[i] / 4);
  }
  EXPECT_EQ(plain.magnitude, 1.0f);
  EXPECT_EQ(linear.magnitude, 1.0f);
}

TEST(Rope, DivisorsDivide) {
  const RopeTable table = MakeRopeTable({.rotated = 4, .divisors = {2.0f, 5.0f}});
  EXPECT_FLOAT_EQ(table.inverse_frequency[0], 0.5f);
  EXPECT_FLOAT_EQ(table.inverse_frequency[1], 0.002f);
}

TEST(Rope, Llama3) {
  ExpectTable({.rotated = 32,
               .base = 500000,
               .scaling = RopeScaling::kLlama3,
               .factor = 8,
               .original_context = 8192,
               .low_frequency = 1,
               .high_frequency = 4},
              {1, 0.440366626, 0.193922758, 0.0853971019, 0.0376060307, 0.0165604409, 0.00729266508, 0.00321144611,
               0.000524846022, 7.78465546e-05, 3.42810235e-05, 1.50962178e-05, 6.64786967e-06, 2.92749974e-06,
               1.28917316e-06, 5.6770881e-07},
              1.0);
}

TEST(Rope, Yarn) {
  ExpectTable({.rotated = 32, .base = 1000000, .scaling = RopeScaling::kYarn, .factor = 4, .original_context = 32768},
              {1, 0.421696514, 0.177827939, 0.0749894157, 0.0316227786, 0.0133352149, 0.00477990136, 0.00165996165,
               0.000549999997, 0.000168678584, 4.44569851e-05, 1.87473561e-05, 7.90569356e-06, 3.33380353e-06,
               1.40585337e-06, 5.92843435e-07},
              1.138629436111989);
}

TEST(Rope, YarnWithMscales) {
  ExpectTable(
      {.rotated = 32,
       .base = 10000,
       .scaling = RopeScaling::kYarn,
       .factor = 40,
       .original_context = 4096,
       .mscale = 1.0,
       .mscale_all_dim = 0.707},
      {1, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0562341288, 0.0272181761, 0.0128290169, 0.00582142826,
       0.00249036867, 0.000959977158, 0.000292145909, 2.49999994e-05, 1.40585325e-05, 7.90569447e-06, 4.44569832e-06},
      1.0857263992561355);
}

TEST(Rope, YarnWithoutTruncation) {
  ExpectTable({.rotated = 32,
               .base = 150000,
               .scaling = RopeScaling::kYarn,
               .factor = 32,
               .original_context = 4096,
               .truncate = false},
              {1, 0.47478205, 0.225418001, 0.107024416, 0.0508132726, 0.0193350017, 0.00679495931, 0.00209379266,
               0.000456483918, 3.83088118e-05, 1.8188337e-05, 8.63549576e-06, 4.09997847e-06, 1.94659629e-06,
               9.24208962e-07, 4.38797855e-07},
              1.3465735902799727);
}

TEST(Rope, YarnAttentionFactorWins) {
  EXPECT_EQ(
      MakeRopeTable(
          {.rotated = 4, .scaling = RopeScaling::kYarn, .factor = 4, .original_context = 64, .attention_factor = 1.5})
          .magnitude,
      1.5f);
}

}  // namespace
}  // namespace conclave::engine
