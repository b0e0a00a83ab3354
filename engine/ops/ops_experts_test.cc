// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts and products per head: every format, odd shapes and every way to choose, against the fp64
// reference; and the same bits whatever a token is computed with.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "engine/ops/ops_fixture.h"

namespace conclave::engine {
namespace {

using testing::IsPlain;
using testing::Must;
using testing::NewOps;
using testing::NewView;
using testing::Normal;
using testing::SquaredError;
using testing::TestBatch;
using testing::TestStack;
using testing::TestWeight;
using testing::Values;

constexpr uint32_t kSeed = 4711;
constexpr int32_t kPages[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
constexpr int32_t kTokensMax = 300;
constexpr KvLayout kLayout{1, 16, 16, false, 1.0f, 16};

Ops::StepLimits Limits(int32_t experts_per_token) {
  return {.tokens_max = kTokensMax,
          .sequences_max = 4,
          .pages_max = 80,
          .query_heads = 1,
          .logit_rows_max = 4,
          .experts_per_token = experts_per_token};
}

const Weight* NewVector(Ops* ops, std::span<const float> values) {
  const WeightSource source = {DType::kF32, 1, static_cast<int64_t>(values.size()), std::as_bytes(values)};
  return Must(ops->MakeWeight({&source, 1}, WeightUse::kVector));
}

View NewIds(Ops* ops, Shape shape, std::span<const int32_t> values) {
  const View view = Must(ops->Allocate(DType::kI32, shape));
  CONCLAVE_CHECK(static_cast<size_t>(shape.elements()) == values.size());
  cuda::CopyBytes(view.data, values.data(), values.size_bytes());
  return view;
}

class Experts : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ops_ = NewOps(GetParam());
    if (ops_ == nullptr) GTEST_SKIP() << "this machine cannot run the " << GetParam() << " kernels";
    reference_ = NewOps("reference");
    std::printf("seed %u\n", kSeed);
  }
  void Prepare(int32_t experts_per_token) {
    ASSERT_TRUE(ops_->Prepare(Limits(experts_per_token), kLayout).ok());
    ASSERT_TRUE(reference_->Prepare(Limits(experts_per_token), kLayout).ok());
  }
  // As in ops_conformance_test.cc: 8-bit activations; on CUDA bf16 ones, and F16 weights rounded to bf16.
  double Bound(DType dtype) const {
    if (cuda()) return dtype == DType::kF32 ? 1e-11 : 4e-5;
    return ops_->kv_dtype() == DType::kF16 && !IsPlain(dtype) ? 4e-4 : 1e-11;
  }
  bool cuda() const { return GetParam() == std::string("cuda"); }

  std::unique_ptr<Ops> ops_, reference_;
  std::mt19937 rng_{kSeed};
};

// ---- Route

struct Choice {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Choice RouteOnce(Ops* ops, const RouterSpec& router, std::span<const float> logits, const Weight* bias,
                 std::span<const int32_t> experts_per_token = {}) {
  const int64_t tokens = static_cast<int64_t>(logits.size()) / router.experts;
  TestBatch batch;
  const int32_t half = static_cast<int32_t>(tokens / 2);
  if (half > 0) batch.Add(0, half, kPages, 16);
  batch.Add(0, static_cast<int32_t>(tokens) - half, kPages, 16);
  StepBatch step = batch.batch();
  step.experts_per_token = experts_per_token;
  const std::vector<int32_t> unwritten(static_cast<size_t>(tokens * router.top_k), 77);  // everything must be written
  const View ids = NewIds(ops, {tokens, router.top_k}, unwritten), weights = NewView(ops, {tokens, router.top_k});
  const AttentionPlan& plan = ops->BeginStep(step);
  ops->Route(ids, weights, NewView(ops, {tokens, router.experts}, logits), bias, router, plan);
  EXPECT_TRUE(ops->EndStep(View{}, {}).ok());
  Choice choice = {unwritten, Values(weights)};
  EXPECT_TRUE(ops->Download(ids, std::as_writable_bytes(std::span(choice.ids))).ok());
  return choice;
}

struct RouterCase {
  const char* name;
  RouterSpec router;
  bool bias = false;
};

std::vector<RouterCase> RouterCases() {
  using Scores = RouterSpec::Scores;
  using GroupScore = RouterSpec::GroupScore;
  const auto router = [](int32_t experts, int32_t top_k) {
    RouterSpec spec;
    spec.experts = experts;
    spec.top_k = top_k;
    return spec;
  };
  std::vector<RouterCase> cases = {{"mixtral", router(8, 2)}, {"one", router(5, 1)},      {"all", router(7, 7)},
                                   {"olmoe", router(64, 8)},  {"single", router(1, 1)},   {"v2", router(160, 6)},
                                   {"v3", router(256, 8)},    {"sigmoid", router(17, 3)}, {"top_two", router(16, 4)}};
  cases[0].router.normalise = cases[2].router.normalise = true;
  RouterSpec& v2 = cases[5].router;
  v2.groups = 8, v2.top_groups = 3, v2.scale = 16;
  RouterSpec& v3 = cases[6].router;
  v3.scores = Scores::kSigmoid, v3.groups = 8, v3.top_groups = 4, v3.group_score = GroupScore::kTopTwoSum;
  v3.normalise = true, v3.sum_epsilon = 1e-20f, v3.scale = 2.5f;
  cases[6].bias = true;
  cases[7].router.scores = Scores::kSigmoid;
  RouterSpec& top_two = cases[8].router;  // groups of one expert have no second best
  top_two.groups = 16, top_two.top_groups = 5, top_two.group_score = GroupScore::kTopTwoSum;
  return cases;
}

TEST_P(Experts, RouteChoosesAndWeighsLikeTheReference) {
  const std::vector<RouterCase> cases = RouterCases();
  std::vector<std::vector<float>> biases(cases.size());
  std::vector<const Weight*> bias[2];
  // Stacks tell the backend how many experts there are.
  const TestStack stack(DType::kF32, 256, 1, 8, &rng_);
  for (int i = 0; i < 2; ++i) {
    Ops* ops = i == 0 ? ops_.get() : reference_.get();
    stack.Make(ops, StackUse::kExperts);
    for (size_t c = 0; c < cases.size(); ++c) {
      bias[i].push_back(nullptr);
      if (!cases[c].bias) continue;
      if (i == 0) biases[c] = Normal(&rng_, static_cast<size_t>(cases[c].router.experts), 0.1f);
      const WeightSource source{DType::kF32, 1, cases[c].router.experts, std::as_bytes(std::span(biases[c]))};
      bias[i].back() = Must(ops->MakeWeight({&source, 1}, WeightUse::kVector));
    }
  }
  Prepare(8);
  for (size_t c = 0; c < cases.size(); ++c) {
    const RouterSpec& router = cases[c].router;
    for (const int64_t tokens : {1, 45}) {
      const std::vector<float> logits = Normal(&rng_, static_cast<size_t>(tokens * router.experts), 2.0f);
      std::vector<std::vector<int32_t>> policies = {{}};
      if (tokens > 1) policies.insert(policies.end(), {{1, router.top_k}, {router.top_k, (router.top_k + 1) / 2}});
      for (const std::vector<int32_t>& policy : policies) {
        const Choice got = RouteOnce(ops_.get(), router, logits, bias[0][c], policy);
        const Choice expected = RouteOnce(reference_.get(), router, logits, bias[1][c], policy);
        EXPECT_EQ(got.ids, expected.ids) << cases[c].name;
        for (size_t i = 0; i < got.weights.size(); ++i) {
          EXPECT_NEAR(got.weights[i], expected.weights[i], 2e-6 * router.scale) << cases[c].name;
        }
      }
    }
  }
}

// By hand: no backend's own output.
TEST_P(Experts, RouteByHand) {
  RouterSpec router;
  router.experts = 6;
  router.top_k = 3;
  router.scores = RouterSpec::Scores::kSigmoid;
  router.groups = 3;
  router.top_groups = 2;
  router.group_score = RouterSpec::GroupScore::kTopTwoSum;
  router.normalise = true;
  router.scale = 2.5f;
  // Sigmoids .5 .5 | .75 .25 | .2 .8; with the bias .5 .5 | .75 .25 | 1.2 .8. The groups sum to 1, 1 and 2: of the two
  // equal ones the first is kept. Chosen by bias, weighed without it.
  const std::vector<float> logits = {0, 0, std::log(3.0f), -std::log(3.0f), std::log(0.25f), std::log(4.0f)};
  const std::vector<float> bias = {0, 0, 0, 0, 1, 0};
  const WeightSource source{DType::kF32, 1, 6, std::as_bytes(std::span(bias))};
  TestStack(DType::kF32, 6, 1, 8, &rng_).Make(ops_.get(), StackUse::kExperts);
  const Weight* bias_weight = Must(ops_->MakeWeight({&source, 1}, WeightUse::kVector));
  Prepare(3);
  const Choice all = RouteOnce(ops_.get(), router, logits, bias_weight);
  EXPECT_EQ(all.ids, (std::vector<int32_t>{4, 5, 0}));
  const float sum = 0.2f + 0.8f + 0.5f;
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(all.weights[i], 2.5f * (i == 0 ? 0.2f : i == 1 ? 0.8f : 0.5f) / sum, 1e-6f);
  // Two of three: renormalised over the two.
  const int32_t two[] = {2};
  const Choice fewer = RouteOnce(ops_.get(), router, logits, bias_weight, two);
  EXPECT_EQ(fewer.ids, (std::vector<int32_t>{4, 5, -1}));
  EXPECT_NEAR(fewer.weights[0], 0.5f, 1e-6f);
  EXPECT_NEAR(fewer.weights[1], 2.0f, 1e-6f);
  EXPECT_EQ(fewer.weights[2], 0.0f);
}

TEST_P(Experts, TiesGoToTheLowerIdAndNotANumberStaysInRange) {
  RouterSpec router;
  router.experts = 9;
  router.top_k = 4;
  TestStack(DType::kF32, 9, 1, 8, &rng_).Make(ops_.get(), StackUse::kExperts);
  Prepare(4);
  EXPECT_EQ(RouteOnce(ops_.get(), router, std::vector<float>(9, 1.5f), nullptr).ids,
            (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(RouteOnce(ops_.get(), router, std::vector<float>{0, 3, 0, 3, 0, 3, 0, 0, 0}, nullptr).ids,
            (std::vector<int32_t>{1, 3, 5, 0}));
  for (const RouterSpec::Scores scores : {RouterSpec::Scores::kSoftmax, RouterSpec::Scores::kSigmoid}) {
    router.scores = scores;
    std::vector<float> logits(9, std::numeric_limits<float>::quiet_NaN());
    for (int i = 0; i < 9; ++i) {
      std::vector<int32_t> ids = RouteOnce(ops_.get(), router, logits, nullptr).ids;
      std::sort(ids.begin(), ids.end());
      EXPECT_TRUE(ids.front() >= 0 && ids.back() < 9 && std::adjacent_find(ids.begin(), ids.end()) == ids.end());
      logits[static_cast<size_t>(i)] = static_cast<float>(i);
    }
  }
}

// ---- ExpertFfn

struct FfnCase {
  DType gate_up, down;
  int64_t experts, slots, width, hidden;
};

// Ids of [tokens, slots], no expert twice in a row; `how`: 0 random with some slots off, 1 all tokens on the same
// experts, 2 every slot off.
std::vector<int32_t> SomeIds(std::mt19937* rng, int64_t tokens, int64_t slots, int64_t experts, int how) {
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<int32_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    if (how == 0) std::shuffle(order.begin(), order.end(), *rng);
    for (int64_t i = 0; i < slots; ++i) {
      const bool off = how == 2 || (how == 0 && i > 0 && (t + i) % 5 == 0);
      ids.push_back(off ? -1 : order[static_cast<size_t>(i)]);
    }
  }
  return ids;
}

TEST_P(Experts, FfnOfEveryFormatAndOddShapes) {
  std::vector<FfnCase> cases = {{DType::kF32, DType::kF32, 5, 2, 37, 11},
                                {DType::kF32, DType::kF32, 1, 1, 8, 1},
                                {DType::kBF16, DType::kF16, 4, 4, 24, 17},
                                {DType::kQ4_0, DType::kBF16, 6, 3, 96, 33},
                                {DType::kQ4_K, DType::kQ6_K, 9, 2, 512, 256}};
  for (const DType dtype : testing::WeightDTypes(GetParam())) {
    const int64_t block = Traits(dtype).block_elements;
    cases.push_back({dtype, dtype, 7, 3, IsPlain(dtype) ? 40 : 3 * block, IsPlain(dtype) ? 20 : block});
  }
  for (const FfnCase& c : cases) {
    ops_ = NewOps(GetParam());
    reference_ = NewOps("reference");
    const TestStack gate_up(c.gate_up, c.experts, 2 * c.hidden, c.width, &rng_, 2);
    const TestStack down(c.down, c.experts, c.width, c.hidden, &rng_);
    const std::vector<float> gate_up_bias = Normal(&rng_, static_cast<size_t>(c.experts * 2 * c.hidden));
    const std::vector<float> down_bias = Normal(&rng_, static_cast<size_t>(c.experts * c.width), 0.1f);
    const WeightStack* stacks[2][2];
    ExpertTerms terms[2];
    for (int i = 0; i < 2; ++i) {
      Ops* ops = i == 0 ? ops_.get() : reference_.get();
      stacks[i][0] = &gate_up.Make(ops, StackUse::kExperts);
      stacks[i][1] = &down.Make(ops, StackUse::kExperts);
      // Every other case is as in gpt-oss: biases, and activations cut at a limit that some meet.
      if ((&c - cases.data()) % 2 == 0) continue;
      terms[i] = {NewVector(ops, gate_up_bias), NewVector(ops, down_bias), {1.702f, 2.0f, 1.0f}};
    }
    Prepare(static_cast<int32_t>(c.slots));
    for (const int64_t tokens : {1, 2, 13, 100, 300}) {
      // The reference takes its time; more tokens matter where they take another kernel.
      if (c.width > 40 && (tokens > 100 || (tokens > 13 && !cuda()))) continue;
      for (const int how : {0, 1, 2}) {
        const std::vector<int32_t> ids = SomeIds(&rng_, tokens, c.slots, c.experts, how);
        const std::vector<float> x = Normal(&rng_, static_cast<size_t>(tokens * c.width), 10.0f);
        const std::vector<float> weights = Normal(&rng_, static_cast<size_t>(tokens * c.slots));
        const std::vector<float> y0 = Normal(&rng_, static_cast<size_t>(tokens * c.width), 0.01f);
        const Accumulate accumulate = how == 0 ? Accumulate::kAdd : Accumulate::kSet;
        std::vector<float> results[2];
        for (int i = 0; i < 2; ++i) {
          Ops* ops = i == 0 ? ops_.get() : reference_.get();
          const View y = NewView(ops, {tokens, c.width}, y0), id_view = NewIds(ops, {tokens, c.slots}, ids);
          ops->ExpertFfn(y, NewView(ops, {tokens, c.width}, x), id_view, NewView(ops, {tokens, c.slots}, weights),
                         *stacks[i][0], *stacks[i][1], terms[i], accumulate);
          results[i] = Values(y);
        }
        double power = 1e-30;
        for (const float value : results[1]) power += double{value} * value;
        // Two products and the activation between them.
        const double bound = 4 * std::max(Bound(c.gate_up), Bound(c.down));
        EXPECT_LE(SquaredError(results[0], results[1]) / power, bound)
            << Name(c.gate_up) << " " << Name(c.down) << " tokens " << tokens << " how " << how;
        if (how == 2) {
          EXPECT_EQ(results[0], std::vector<float>(results[0].size(), 0.0f));
        }
      }
    }
  }
}

// Weights of an expert that nobody chose may be anything.
TEST_P(Experts, SkippedSlotsAreNeverRead) {
  TestStack gate_up(DType::kF32, 4, 32, 16, &rng_), down(DType::kF32, 4, 16, 16, &rng_);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (TestStack* stack : {&gate_up, &down}) {
    std::vector<std::byte>& bytes = stack->files[2].bytes;
    for (size_t i = 0; i < bytes.size(); i += sizeof(nan)) std::memcpy(&bytes[i], &nan, sizeof(nan));
  }
  const WeightStack& a = gate_up.Make(ops_.get(), StackUse::kExperts);
  const WeightStack& b = down.Make(ops_.get(), StackUse::kExperts);
  Prepare(2);
  const int32_t chosen[] = {0, 3, 1, -1, 3, -1};
  const View y = NewView(ops_.get(), {3, 16}), ids = NewIds(ops_.get(), {3, 2}, chosen);
  ops_->ExpertFfn(y, NewView(ops_.get(), {3, 16}, Normal(&rng_, 48)), ids,
                  NewView(ops_.get(), {3, 2}, std::vector<float>{0.5f, 0.5f, 1, nan, 1, nan}), a, b, {},
                  Accumulate::kSet);
  for (const float value : Values(y)) EXPECT_TRUE(std::isfinite(value));
}

// Stacks that hold some of the experts: as if the slots of all others were skipped.
TEST_P(Experts, OthersThanTheStacksAreSkipped) {
  if (std::string_view(GetParam()) == "cuda") GTEST_SKIP() << "a CUDA device computes for one rank, with all experts";
  constexpr int64_t kTokens = 23, kSlots = 4, kExperts = 9, kWidth = 64, kHidden = 32, kFirst = 3, kCount = 4;
  const TestStack gate_up(DType::kQ4_0, kCount, 2 * kHidden, kWidth, &rng_);
  const TestStack down(DType::kBF16, kCount, kWidth, kHidden, &rng_);
  const WeightStack& a = gate_up.Make(ops_.get(), StackUse::kExperts);
  const WeightStack& b = down.Make(ops_.get(), StackUse::kExperts);
  ExpertTerms terms = {};
  terms.gate_up_bias = NewVector(ops_.get(), Normal(&rng_, kCount * 2 * kHidden));
  terms.down_bias = NewVector(ops_.get(), Normal(&rng_, kCount * kWidth));
  Prepare(kSlots);
  const std::vector<int32_t> ids = SomeIds(&rng_, kTokens, kSlots, kExperts, 0);
  const std::vector<float> x = Normal(&rng_, kTokens * kWidth), weights = Normal(&rng_, kTokens * kSlots);
  std::vector<float> results[2];
  for (const bool renumbered : {false, true}) {
    const View y = NewView(ops_.get(), {kTokens, kWidth});
    std::vector<int32_t> own = ids;
    for (int32_t& id : own) {
      if (renumbered) id = id >= kFirst && id < kFirst + kCount ? id - static_cast<int32_t>(kFirst) : -1;
    }
    terms.first_expert = renumbered ? 0 : kFirst;
    ops_->ExpertFfn(y, NewView(ops_.get(), {kTokens, kWidth}, x), NewIds(ops_.get(), {kTokens, kSlots}, own),
                    NewView(ops_.get(), {kTokens, kSlots}, weights), a, b, terms, Accumulate::kSet);
    results[renumbered ? 1 : 0] = Values(y);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_NE(results[0], std::vector<float>(results[0].size(), 0.0f));
}

// A token's bits are the same alone and among others, on any number of threads, in one chunk or several.
TEST_P(Experts, FfnDoesNotDependOnOtherTokensOrThreads) {
  if (cuda()) GTEST_SKIP() << "products on CUDA round differently by the number of tokens";
  constexpr int64_t kTokens = 300, kSlots = 6, kExperts = 9, kWidth = 256, kHidden = 256;
  for (const DType dtype : {DType::kBF16, DType::kQ4_0, DType::kQ4_K, DType::kQ6_K, DType::kMXFP4}) {
    const TestStack gate_up(dtype, kExperts, 2 * kHidden, kWidth, &rng_), down(dtype, kExperts, kWidth, kHidden, &rng_);
    const std::vector<int32_t> ids = SomeIds(&rng_, kTokens, kSlots, kExperts, 0);
    const std::vector<float> x = Normal(&rng_, kTokens * kWidth), weights = Normal(&rng_, kTokens * kSlots);
    const std::vector<float> gate_up_bias = Normal(&rng_, kExperts * 2 * kHidden);
    const std::vector<float> down_bias = Normal(&rng_, kExperts * kWidth);
    std::vector<float> expected(kTokens * kWidth);
    for (const int threads : {1, 3}) {
      const std::unique_ptr<Ops> ops = NewOps(GetParam(), threads);
      const WeightStack& a = gate_up.Make(ops.get(), StackUse::kExperts);
      const WeightStack& b = down.Make(ops.get(), StackUse::kExperts);
      const ExpertTerms terms = {NewVector(ops.get(), gate_up_bias), NewVector(ops.get(), down_bias), {1.7f, 3, 1}};
      ASSERT_TRUE(ops->Prepare(Limits(kSlots), kLayout).ok());
      const View id_view = NewIds(ops.get(), {kTokens, kSlots}, ids);
      for (const int64_t count : {int64_t{1}, int64_t{7}, kTokens}) {
        for (int64_t first = 0; first < kTokens; first += count) {
          const int64_t n = std::min(count, kTokens - first);
          const View y = NewView(ops.get(), {n, kWidth});
          std::copy_n(ids.begin() + first * kSlots, n * kSlots, id_view.as<int32_t>());
          ops->ExpertFfn(y, NewView(ops.get(), {n, kWidth}, std::span(x).subspan(first * kWidth, n * kWidth)),
                         id_view.Prefix(n),
                         NewView(ops.get(), {n, kSlots}, std::span(weights).subspan(first * kSlots, n * kSlots)), a, b,
                         terms, Accumulate::kSet);
          float* known = expected.data() + first * kWidth;
          if (threads == 1 && count == 1) std::copy_n(y.as<float>(), kWidth, known);
          ASSERT_EQ(std::memcmp(y.as<float>(), known, static_cast<size_t>(n * kWidth) * sizeof(float)), 0)
              << Name(dtype) << " tokens " << count << " threads " << threads;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Experts, ::testing::Values("scalar", "avx2", "avx512", "cuda"),
                         [](const auto& kernel) { return std::string(kernel.param); });

}  // namespace
}  // namespace conclave::engine
