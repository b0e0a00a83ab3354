// SPDX-License-Identifier: Apache-2.0
// Reference values: scipy 1.17 (betaincinv, t, norm, binom); betainc by its defining series in 40-digit arithmetic
// (mpmath), which scipy matches to about 1e-13.
#include "orchestrator/experiment/stats/special.h"

#include <gtest/gtest.h>

#include <cmath>

namespace conclave::stats {
namespace {

void ExpectRelative(double actual, double expected, double tolerance = 1e-12) {
  EXPECT_NEAR(actual, expected, tolerance * std::max(std::fabs(expected), 1e-300)) << expected;
}

TEST(SpecialTest, RegularizedBeta) {
  struct Case {
    double a, b, x, value;
  };
  for (const Case& c :
       {Case{0.5, 0.5, 0.3, 0.36901011956554538}, Case{2, 3, 0.1, 0.0523}, Case{10.5, 0.5, 0.99, 0.64984365807809124},
        Case{659.5, 0.5, 0.998, 0.10422710173393311}, Case{0.5, 700, 0.0001, 0.29167624342879088},
        Case{14000, 43, 0.9965, 0.17152354608807856}, Case{1, 1, 0.25, 0.25}, Case{330, 1, 0.99, 0.036275567655825148},
        Case{1e5, 1e5, 0.4985, 0.089856029826326205}, Case{3, 0.01, 0.9999, 0.074265230607515395},
        Case{659, 0.5, 0.973, 1.9117873332759775e-9}, Case{50000, 0.5, 0.99996, 0.045498644147683219},
        Case{21.5, 0.5, 0.40186, 4.7382610502372799e-10}, Case{0.5, 659, 0.01, 0.99972615538816976},
        Case{6999, 7043, 0.5, 0.64480138297432045}, Case{700, 620, 0.53, 0.49075758903425779},
        Case{42, 42, 0.5, 0.5}}) {
    ExpectRelative(RegularizedBeta(c.a, c.b, c.x), c.value);
  }
  EXPECT_EQ(RegularizedBeta(2, 3, 0), 0);
  EXPECT_EQ(RegularizedBeta(2, 3, 1), 1);
}

TEST(SpecialTest, BetaQuantile) {
  ExpectRelative(BetaQuantile(1, 330, 0.975), 0.011116176177237211);
  ExpectRelative(BetaQuantile(0.5, 0.5, 0.025), 0.001541333133436012);
  ExpectRelative(BetaQuantile(925, 395, 0.025), 0.6757806330440523);
  ExpectRelative(BetaQuantile(926, 394, 0.975), 0.7258968414996998);
  ExpectRelative(BetaQuantile(2, 3, 0.5), 0.3857275681323895);
  ExpectRelative(BetaQuantile(14000, 43, 0.01), 0.9957506556442828);
}

TEST(SpecialTest, StudentT) {
  ExpectRelative(StudentTCdf(0.1, 1), 0.5317255174305535);
  ExpectRelative(StudentTCdf(1.5, 4), 0.896);
  ExpectRelative(StudentTCdf(-2.2, 29), 0.017963379575341287);
  ExpectRelative(StudentTCdf(-0.001, 5), 0.4996203933860988);
  ExpectRelative(StudentTTwoSidedP(3.3, 1318), 0.0009926926581193597, 1e-11);
  ExpectRelative(StudentTTwoSidedP(8, 43), 4.740617165526036e-10);
  ExpectRelative(StudentTTwoSidedP(25, 10), 2.399392760063339e-10);
  EXPECT_EQ(StudentTTwoSidedP(0, 5), 1);
  ExpectRelative(StudentTQuantile(0.975, 1), 12.706204736174694);
  ExpectRelative(StudentTQuantile(0.975, 4), 2.7764451051977934);
  ExpectRelative(StudentTQuantile(0.975, 1318), 1.9617655127673146);
  ExpectRelative(StudentTQuantile(0.95, 43), 1.681070703202519);
  ExpectRelative(StudentTQuantile(0.999, 9), 4.296805662729918);
  ExpectRelative(StudentTQuantile(0.6, 3), 0.2766706623326898);
  ExpectRelative(StudentTQuantile(0.025, 12), -2.1788128296672293);
  ExpectRelative(StudentTQuantile(0.9999999, 7), 19.93390224944619, 1e-9);  // 1 - p has lost digits already
  ExpectRelative(StudentTQuantile(0.975, 1e6), 1.959966356814107);
}

TEST(SpecialTest, Normal) {
  ExpectRelative(NormalQuantile(0.975), 1.959963984540054);
  ExpectRelative(NormalQuantile(0.025), -1.959963984540054);
  EXPECT_EQ(NormalQuantile(0.5), 0);
  ExpectRelative(NormalQuantile(1e-10), -6.361340902404056);
  ExpectRelative(NormalQuantile(1e-300), -37.0470962993612);
  ExpectRelative(NormalQuantile(0.3), -0.5244005127080409);
  ExpectRelative(NormalQuantile(0.8), 0.8416212335729143);
  for (double p = 0.001; p < 1; p += 0.0173) EXPECT_NEAR(NormalCdf(NormalQuantile(p)), p, 1e-14);
}

TEST(SpecialTest, Binomial) {
  ExpectRelative(BinomialPmf(3, 13, 0.5), 286.0 / 8192);
  ExpectRelative(BinomialPmf(0, 5, 0.1), 0.59049);
  ExpectRelative(BinomialPmf(5, 5, 0.9), 0.59049);
  ExpectRelative(BinomialPmf(500, 1000, 0.5), 0.025225018178360804);
  ExpectRelative(BinomialPmf(923, 1319, 0.7), 0.02395577969629301);
  ExpectRelative(BinomialPmf(7000, 14042, 0.5), 0.006323259872485684);
  ExpectRelative(BinomialCdf(3, 13, 0.5), 378.0 / 8192);
  ExpectRelative(BinomialCdf(923, 1319, 0.7), 0.5031952354410135);
  ExpectRelative(BinomialCdf(7000, 14042, 0.5), 0.3646740503141605, 1e-11);
  EXPECT_EQ(BinomialCdf(-1, 5, 0.5), 0);
  EXPECT_EQ(BinomialCdf(5, 5, 0.5), 1);
}

TEST(SpecialTest, Choose) {
  EXPECT_EQ(Choose(0, 0), 1);
  EXPECT_EQ(Choose(52, 5), 2598960);
  EXPECT_EQ(Choose(5, 6), 0);
  EXPECT_EQ(Choose(5, -1), 0);
}

}  // namespace
}  // namespace conclave::stats
