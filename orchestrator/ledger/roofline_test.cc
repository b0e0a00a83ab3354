// SPDX-License-Identifier: Apache-2.0
// Worked by hand, and held against the published measurements of graphs/hardware.
#include "orchestrator/ledger/roofline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/file.h"
#include "protos/textproto.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using deliberation::v1::Accelerator;
using deliberation::v1::Card;
using deliberation::v1::Hardware;
using ::testing::HasSubstr;

const Hardware& Shipped() {
  static const Hardware* const hardware = [] {
    auto* out = new Hardware;
    const auto text = ReadFile(CONCLAVE_SOURCE_DIR "/graphs/hardware/hardware.textproto");
    EXPECT_OK(text);
    EXPECT_TRUE(ParseTextproto(*text, out).errors.empty());
    return out;
  }();
  return *hardware;
}

const Accelerator& Device(const std::string& name) {
  for (const Accelerator& a : Shipped().accelerator()) {
    if (a.name() == name) return a;
  }
  ADD_FAILURE() << name;
  return Accelerator::default_instance();
}

const Card& Model(const std::string& name) {
  for (const auto& m : Shipped().model()) {
    if (m.name() == name) return m.card();
  }
  ADD_FAILURE() << name;
  return Card::default_instance();
}

// A thousand FLOP/s and a hundred bytes/s, nothing on top.
Accelerator Plain() {
  Accelerator a;
  a.set_name("plain");
  a.set_memory_bytes(1000);
  a.set_bytes_per_second(100);
  a.set_flops_16bit(1000);
  a.set_bandwidth_share(1);
  a.set_flops_share(0.5);
  a.set_watts_memory_bound(10);
  a.set_watts_limit(30);
  a.set_limit_at_share(0.4);
  a.set_devices_per_node(8);
  return a;
}

Card Small() {
  Card card;
  card.set_total_parameters(50);
  card.set_layers(1);
  return card;  // 100 bytes, 100 FLOPs per token
}

// 100 tokens through 80 FLOPs each and the last one through the head's 20, at 500 a second.
TEST(Roofline, OnlyTheLastTokenOfAPromptSeesTheHead) {
  Card card = Small();
  card.set_output_head_parameters(10);
  const auto prompt = Prefill(card, Plain(), {.devices = 1, .batch = 1, .context = 0}, 100);
  ASSERT_OK(prompt);
  EXPECT_FALSE(prompt->memory_bound);
  EXPECT_DOUBLE_EQ(prompt->seconds, (100 * 80 + 20) / 500.0);
}

TEST(Roofline, TheLargerRoofDecides) {
  const auto alone = DecodeStep(Small(), Plain(), {.devices = 1, .batch = 1, .context = 0});
  ASSERT_OK(alone);
  EXPECT_TRUE(alone->memory_bound);
  EXPECT_DOUBLE_EQ(alone->seconds, 1);  // 100 bytes of 100; FLOPs: 100 of 500
  EXPECT_DOUBLE_EQ(alone->watts, 15);   // a tenth of the peak is a quarter of the way to the limit
  const auto many = DecodeStep(Small(), Plain(), {.devices = 1, .batch = 10, .context = 0});
  ASSERT_OK(many);
  EXPECT_FALSE(many->memory_bound);
  EXPECT_DOUBLE_EQ(many->seconds, 2);  // 1,000 of 500
  EXPECT_DOUBLE_EQ(many->watts, 30);   // half of the peak: the limit
  EXPECT_DOUBLE_EQ(DecodeStep(Small(), Plain(), {.devices = 4, .batch = 10, .context = 0})->seconds, 0.5);
}

TEST(Roofline, KeysValuesLayersAndSequencesComeOnTop) {
  Card card = Small();
  card.set_kv_bytes_per_token(3);
  Accelerator device = Plain();
  device.set_seconds_per_layer(0.25);
  device.set_seconds_per_sequence(0.5);
  device.set_exchange_seconds_per_layer_and_device(100);  // of mixtures only
  const auto step = DecodeStep(card, device, {.devices = 1, .batch = 2, .context = 50});
  EXPECT_DOUBLE_EQ(step->bytes, 100 + 2 * 50 * 3);
  EXPECT_DOUBLE_EQ(step->seconds, 4 + 0.25 + 2 * 0.5);
}

// Ten experts, two per token, 80 of 100 parameters in them: 20 + 16 active.
TEST(Roofline, ABatchTouchesMoreExperts) {
  Card card;
  card.set_total_parameters(100);
  card.set_active_parameters(36);
  card.set_layers(1);
  card.set_experts(10);
  card.set_experts_per_token(2);
  card.set_bytes_per_weight(1);
  EXPECT_NEAR(WeightBytesPerStep(card, 1), 36, 1e-9);
  EXPECT_NEAR(WeightBytesPerStep(card, 2), 20 + 80 * 0.36, 1e-9);
  EXPECT_NEAR(WeightBytesPerStep(card, 1e6), 100, 1e-9);
  // specs/evaluation.md §3: 8, 51.6, 82.4, 111.8 of 128 experts at batches of 1, 8, 16, 32; 57.4 and 163 of 256.
  const auto experts = [](double all, double batch) { return all * (1 - std::pow(1 - 8 / all, batch)); };
  EXPECT_NEAR(experts(128, 8), 51.6, 0.05);
  EXPECT_NEAR(experts(128, 32), 111.8, 0.05);
  EXPECT_NEAR(experts(256, 32), 163, 0.5);
}

// Published by the makers or in specs/evaluation.md §3: FLOPs per token and weight bytes per token.
TEST(Roofline, TheQuestionsTwoSides) {
  const Card &dense = Model("qwen3-32b"), &mixture = Model("deepseek-v3");
  EXPECT_NEAR(WeightBytesPerStep(dense, 8) / 8, 8.0e9, 0.3e9);
  EXPECT_NEAR(WeightBytesPerStep(mixture, 1), 36.6e9, 1.5e9);
  EXPECT_NEAR(WeightBytesPerStep(mixture, 8) / 8, 20.4e9, 0.6e9);
  EXPECT_NEAR(WeightBytesPerStep(mixture, 32) / 32, 13.5e9, 0.4e9);
  EXPECT_NEAR(WeightBytesPerStep(mixture, 128) / 128, 5.2e9, 0.1e9);
  // Twenty distinct 32B models in 16 bits: 1.31 TB, two to an 80 GB device less, two devices each, five machines.
  const auto group = Hold(dense, Device("h100-sxm"), {.devices = 1, .batch = 8, .context = 4096}, 20);
  ASSERT_OK(group);
  EXPECT_NEAR(group->weight_bytes, 1.31e12, 0.01e12);
  EXPECT_EQ(group->devices_per_copy, 2);
  EXPECT_EQ(group->nodes, 5);
  // The mixture in 8 bits, 671 GB: 16 of 80 GB, two machines; 8 of 141 GB, one.
  const auto giant = Hold(mixture, Device("h100-sxm"), {.devices = 1, .batch = 8, .context = 4096}, 1);
  ASSERT_OK(giant);
  EXPECT_EQ(giant->devices, 16);
  EXPECT_EQ(giant->nodes, 2);
  EXPECT_EQ(Hold(mixture, Device("h200-sxm"), {.devices = 1, .batch = 8, .context = 4096}, 1)->nodes, 1);
}

TEST(Roofline, StepTimesAndPowerAreThoseThatWerePublished) {
  double log_error = 0;
  ASSERT_EQ(Shipped().measurement_size(), 30);
  for (const auto& m : Shipped().measurement()) {
    const auto step = DecodeStep(Model(m.model()), Device(m.accelerator()),
                                 {.devices = m.devices(), .batch = m.batch(), .context = 600});
    ASSERT_OK(step);
    EXPECT_NEAR(step->seconds / m.step_seconds(), 1, 0.20) << m.model() << " x" << m.devices() << " at " << m.batch();
    EXPECT_NEAR(step->watts / m.watts(), 1, 0.30) << m.model() << " x" << m.devices() << " at " << m.batch();
    log_error += std::pow(std::log(step->seconds / m.step_seconds()), 2);
  }
  EXPECT_LT(std::sqrt(log_error / Shipped().measurement_size()), 0.10);  // about as many per cent, root mean square
}

TEST(Roofline, EveryConstantIsCited) {
  for (const auto& a : Shipped().accelerator()) {
    EXPECT_NE(a.source(), "") << a.name();
    EXPECT_NE(a.fitted_to(), "") << a.name();
  }
  for (const auto& m : Shipped().model()) EXPECT_NE(m.card().source(), "") << m.name();
  for (const auto& m : Shipped().measurement()) EXPECT_NE(m.source(), "");
}

TEST(Roofline, AnAnswerIsItsPromptAndItsSteps) {
  const Serving alone{.devices = 1, .batch = 1, .context = 0};
  const auto answer = Answer(Small(), Plain(), alone, 10, 4);
  ASSERT_OK(answer);
  EXPECT_DOUBLE_EQ(answer->seconds, 2 + 3 * 1);  // 1,000 FLOPs of the prompt at 500; three more tokens
  EXPECT_DOUBLE_EQ(answer->joules, 2 * 30 + 3 * 15);
  const auto shared = Answer(Small(), Plain(), {.devices = 1, .batch = 5, .context = 0}, 10, 4);
  EXPECT_LT(shared->joules, answer->joules) << "the weights are read for five";
}

TEST(Roofline, WhatMakesNoSenseIsRefused) {
  EXPECT_THAT(DecodeStep(Card(), Plain(), {}), testing::StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(DecodeStep(Small(), Accelerator(), {}), testing::StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(DecodeStep(Small(), Plain(), {.devices = 0, .batch = 1, .context = 0}),
              testing::StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Hold(Small(), Plain(), {}, 0), testing::StatusIs(absl::StatusCode::kInvalidArgument));
  Card huge = Small();
  huge.set_total_parameters(int64_t{1} << 60);
  EXPECT_THAT(Hold(huge, Plain(), {}, 1),
              testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("do not fit")));
}

}  // namespace
}  // namespace conclave::orchestrator
