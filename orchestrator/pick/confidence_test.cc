// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/pick/confidence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace conclave::orchestrator {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

TEST(TokenConfidence, Windows) {
  // Windows of 3: (1 2 3), (2 3 4), .., (8 9 10): means 2 .. 9; of these eight a tenth is one.
  TokenTrace trace;
  for (int i = 1; i <= 10; ++i) trace.confidences.push_back(static_cast<float>(i));
  trace.logprob_sum = -5;
  const auto summary = Summarize(trace, 3);
  ASSERT_TRUE(summary.has_value());
  EXPECT_EQ(summary->token_count, 10);
  EXPECT_EQ(summary->mean_logprob, -0.5);
  EXPECT_EQ(summary->mean, 5.5);
  EXPECT_EQ(summary->tail, 9);
  EXPECT_EQ(summary->lowest, 2);
  EXPECT_EQ(summary->bottom, 2);
  // Windows of 1 over 20 tokens: a tenth is two, the lowest 1 and 2.
  TokenTrace more;
  for (int i = 20; i >= 1; --i) more.confidences.push_back(static_cast<float>(i));
  EXPECT_EQ(Summarize(more, 1)->bottom, 1.5);
  EXPECT_EQ(Summarize(more, 1)->tail, 1);
}

TEST(TokenConfidence, AShortTextIsOneWindow) {
  TokenTrace trace;
  trace.confidences = {2, 4};
  const auto summary = Summarize(trace, 2048);
  EXPECT_EQ(summary->tail, 3);
  EXPECT_EQ(summary->lowest, 3);
  EXPECT_EQ(summary->bottom, 3);
  EXPECT_FALSE(Summarize(TokenTrace(), 5).has_value());
}

TEST(LogOdds, ShrunkToThePoolAndClipped) {
  // Two members, 9 of 10 and 1 of 10: pool 0.5. Shrink 10: p = (9 + 5) / 20 = 0.7 and (1 + 5) / 20 = 0.3.
  const std::vector<Record> records = {{9, 10}, {1, 10}};
  EXPECT_THAT(LogOddsWeights(records, 2, 10, 0.02), ElementsAre(DoubleNear(std::log(0.7 / 0.3), 1e-12), 0.0));
  // Of five answers even 0.3 is worth something: log(0.3 x 4 / 0.7).
  EXPECT_THAT(LogOddsWeights(records, 5, 10, 0.02),
              ElementsAre(DoubleNear(std::log(0.7 * 4 / 0.3), 1e-12), DoubleNear(std::log(0.3 * 4 / 0.7), 1e-12)));
  // Without shrinking a perfect record would be worth infinitely much: it is clipped.
  EXPECT_THAT(LogOddsWeights(std::vector<Record>{{7, 7}}, 2, 0, 0.02),
              ElementsAre(DoubleNear(std::log(0.98 / 0.02), 1e-12)));
  EXPECT_THAT(LogOddsWeights(std::vector<Record>{{0, 7}}, 2, 0, 0.02), ElementsAre(0.0));
  EXPECT_TRUE(LogOddsWeights({}, 2, 10, 0.02).empty());
}

}  // namespace
}  // namespace conclave::orchestrator
