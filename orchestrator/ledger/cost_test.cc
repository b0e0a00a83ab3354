// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/ledger/cost.h"

#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

TEST(Cost, FlopsAreTheSumOverComputedTokens) {
  CostModel cost;
  cost.flops_per_token = 1000;
  cost.head_flops_per_token = 300;
  cost.attention_flops_per_token_and_position = 3;
  for (int64_t prompt : {1, 2, 17}) {
    for (int64_t cached : {int64_t{0}, int64_t{1}, prompt - 1}) {
      for (int64_t output : {0, 1, 2, 9}) {
        double expected = 0;  // token by token: the last one put out is never processed
        for (int64_t p = cached; p < prompt + std::max<int64_t>(0, output - 1); ++p) {
          expected += 700 + 3 * static_cast<double>(p + 1);
        }
        // The head looks where a next token is wanted: behind the prompt, and behind every token but the last.
        for (int64_t wanted = 0; wanted < std::max<int64_t>(1, output); ++wanted) expected += 300;
        EXPECT_EQ(EstimateFlops(cost, prompt, cached, output), expected) << prompt << " " << cached << " " << output;
      }
    }
  }
}

// What is saved is what a cached prefix would have cost: no next token is wanted behind it.
TEST(Cost, WhatIsSavedHasNoHead) {
  CostModel cost;
  cost.flops_per_token = 1000;
  cost.head_flops_per_token = 300;
  cost.attention_flops_per_token_and_position = 3;
  const inference::v1::Usage usage = UsageOf(cost, 10, 4, 2);
  EXPECT_EQ(usage.saved_flop_count(), 4 * 700 + 3 * (1 + 2 + 3 + 4));
  EXPECT_EQ(usage.flop_count() + usage.saved_flop_count(), UsageOf(cost, 10, 0, 2).flop_count());
}

TEST(Cost, CardFigures) {
  deliberation::v1::Card card;
  card.set_total_parameters(671'000'000'000);
  card.set_active_parameters(37'000'000'000);
  card.set_layers(61);
  card.set_hidden(7168);
  card.set_bytes_per_weight(1);
  EXPECT_EQ(CostOf(card).head_flops_per_token, 0);
  card.set_output_head_parameters(int64_t{129'280} * 7168);
  const CostModel cost = CostOf(card);
  EXPECT_EQ(cost.flops_per_token, 74e9);
  EXPECT_EQ(cost.head_flops_per_token, 2.0 * 129'280 * 7168);
  EXPECT_EQ(cost.attention_flops_per_token_and_position, 4.0 * 61 * 7168);
  EXPECT_EQ(cost.weight_bytes_per_token, 37e9);
  EXPECT_EQ(cost.characters_per_token, 4);
}

TEST(Cost, TokensOfText) {
  CostModel cost;
  EXPECT_EQ(EstimateTokens(cost, 0), 0);
  EXPECT_EQ(EstimateTokens(cost, 1), 1);
  EXPECT_EQ(EstimateTokens(cost, 4), 1);
  EXPECT_EQ(EstimateTokens(cost, 5), 2);
  cost.characters_per_token = 2.5;
  EXPECT_EQ(EstimateTokens(cost, 10), 4);
}

TEST(Cost, UsageFromTexts) {
  CostModel cost;
  cost.flops_per_token = 10;
  cost.weight_bytes_per_token = 100;
  cost.kv_bytes_per_token = 2;
  const inference::v1::Usage usage = EstimateUsage(cost, 40, 12);
  EXPECT_EQ(usage.prompt_token_count(), 10);
  EXPECT_EQ(usage.output_token_count(), 3);
  EXPECT_EQ(usage.flop_count(), 120);
  EXPECT_EQ(usage.weight_byte_count(), 300);
  EXPECT_EQ(usage.kv_byte_count(), 2 * (10 + 11 + 12));
}

}  // namespace
}  // namespace conclave::orchestrator
