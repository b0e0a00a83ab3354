// SPDX-License-Identifier: Apache-2.0
// Products per head, gates and stacks of weights against the fp64 reference.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/ops/ops_fixture.h"

namespace conclave::engine {
namespace {

using testing::IsPlain;
using testing::NewOps;
using testing::NewView;
using testing::Normal;
using testing::SquaredError;
using testing::TestStack;
using testing::TestWeight;
using testing::Values;

constexpr uint32_t kSeed = 4712;

class Heads : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    Renew();
    if (ops_ == nullptr) GTEST_SKIP() << "this machine cannot run the " << GetParam() << " kernels";
    std::printf("seed %u\n", kSeed);
  }
  void Renew() {
    ops_ = NewOps(GetParam());
    reference_ = NewOps("reference");
  }
  void Prepare() {
    for (Ops* ops : {ops_.get(), reference_.get()}) {
      ASSERT_TRUE(ops->Prepare({200, 4, 80, 1, 4}, {1, 16, 16, false, 1.0f, 16}).ok());
    }
  }
  // As in ops_conformance_test.cc: 8-bit activations; on CUDA bf16 ones, and F16 weights rounded to bf16.
  double Bound(DType dtype) const {
    if (GetParam() == std::string("cuda")) return dtype == DType::kF32 ? 1e-11 : 4e-5;
    return ops_->kv_dtype() == DType::kF16 && !IsPlain(dtype) ? 4e-4 : 1e-11;
  }

  std::unique_ptr<Ops> ops_, reference_;
  std::mt19937 rng_{kSeed};
};

TEST_P(Heads, HeadGemmOfEveryFormatAndOddShapes) {
  struct Case {
    DType dtype;
    int64_t heads, rows, columns, rest;
  };
  std::vector<Case> cases = {{DType::kF32, 3, 5, 7, 2}, {DType::kBF16, 16, 33, 24, 0}, {DType::kF32, 1, 16, 1, 4}};
  for (const DType dtype : testing::WeightDTypes(GetParam())) {
    const int64_t block = Traits(dtype).block_elements;
    cases.push_back({dtype, 5, 40, IsPlain(dtype) ? 16 : block, 8});
    cases.push_back({dtype, 2, 19, IsPlain(dtype) ? 40 : 2 * block, 0});
  }
  for (const Case& c : cases) {
    Renew();
    const TestStack stack(c.dtype, c.heads, c.rows, c.columns, &rng_);
    const WeightStack& w = stack.Make(ops_.get(), StackUse::kHeads);
    const WeightStack& expected_w = stack.Make(reference_.get(), StackUse::kHeads);
    Prepare();
    for (const int64_t tokens : {1, 7, 12, 200}) {
      const std::vector<float> x = Normal(&rng_, static_cast<size_t>(tokens * c.heads * (c.columns + c.rest)), 20.0f);
      const Shape x_shape{tokens, c.heads, c.columns + c.rest}, y_shape{tokens, c.heads, c.rows + c.rest};
      const View y = NewView(ops_.get(), y_shape), expected = NewView(reference_.get(), y_shape);
      ops_->HeadGemm(y, NewView(ops_.get(), x_shape, x), w);
      reference_->HeadGemm(expected, NewView(reference_.get(), x_shape, x), expected_w);
      const double power = static_cast<double>(y_shape.elements() * c.columns) * 0.05 * 0.05 * 20 * 20;
      const std::vector<float> values = Values(y);
      EXPECT_LE(SquaredError(values, Values(expected)) / power, Bound(c.dtype))
          << Name(c.dtype) << " tokens " << tokens;
      for (int64_t i = 0; i < tokens * c.heads; ++i) {  // what is copied is copied exactly
        for (int64_t r = 0; r < c.rest; ++r) {
          ASSERT_EQ(values[static_cast<size_t>(i * y_shape[2] + c.rows + r)],
                    x[static_cast<size_t>(i * x_shape[2] + c.columns + r)]);
        }
      }
    }
  }
}

// Floats that bf16 holds exactly, as of a checkpoint in bf16 whose rows and columns were exchanged.
TEST_P(Heads, HeadGemmOfExactFloats) {
  const TestStack stored(DType::kBF16, 4, 24, 80, &rng_);
  TestStack stack(DType::kF32, 4, 24, 80, &rng_);
  for (size_t i = 0; i < stack.files.size(); ++i) {
    std::vector<float> values(24 * 80);
    quant::DecodeRow(DType::kBF16, stored.files[i].bytes.data(), values);
    std::memcpy(stack.files[i].bytes.data(), values.data(), values.size() * sizeof(float));
  }
  const WeightStack& w = stack.Make(ops_.get(), StackUse::kHeads);
  const WeightStack& expected_w = stored.Make(reference_.get(), StackUse::kHeads);
  Prepare();
  const std::vector<float> x = Normal(&rng_, 9 * 4 * 80);
  const View y = NewView(ops_.get(), {9, 4, 24}), expected = NewView(reference_.get(), {9, 4, 24});
  ops_->HeadGemm(y, NewView(ops_.get(), {9, 4, 80}, x), w);
  reference_->HeadGemm(expected, NewView(reference_.get(), {9, 4, 80}, x), expected_w);
  EXPECT_LE(SquaredError(Values(y), Values(expected)) / (9.0 * 4 * 24 * 80 * 0.05 * 0.05), Bound(DType::kBF16));
}

TEST_P(Heads, SigmoidGateScalesRows) {
  Prepare();
  const View y = NewView(ops_.get(), {3, 2}, std::vector<float>{1, -2, 3, 4, 5, 6});
  ops_->SigmoidGate(y, NewView(ops_.get(), {3, 1}, std::vector<float>{0, std::log(3.0f), -100}));
  const float expected[] = {0.5f, -1, 2.25f, 3, 0, 0};
  const std::vector<float> values = Values(y);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-6f);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Heads, ::testing::Values("scalar", "avx2", "avx512", "cuda"),
                         [](const auto& kernel) { return std::string(kernel.param); });

TEST(MakeWeightStack, StacksThatCannotBeAreErrors) {
  for (const char* kernel : {"reference", "auto"}) {
    const std::unique_ptr<Ops> ops = NewOps(kernel);
    std::mt19937 rng(kSeed);
    const TestWeight a(DType::kF32, 4, 8, &rng), b(DType::kF32, 5, 8, &rng), c(DType::kF32, 4, 9, &rng);
    const auto code = [&](std::vector<WeightSource> sources, int64_t count) {
      return ops->MakeWeightStack(sources, count, StackUse::kExperts).status().code();
    };
    EXPECT_EQ(code({a.source(), a.source()}, 2), absl::StatusCode::kOk);
    EXPECT_EQ(code({a.source(), b.source(), b.source(), a.source()}, 2), absl::StatusCode::kOk);
    EXPECT_EQ(code({a.source(), b.source()}, 2), absl::StatusCode::kInvalidArgument);              // unequal rows
    EXPECT_EQ(code({a.source(), c.source()}, 2), absl::StatusCode::kInvalidArgument);              // unequal columns
    EXPECT_EQ(code({a.source(), a.source(), a.source()}, 2), absl::StatusCode::kInvalidArgument);  // a half one
    EXPECT_EQ(code({a.source()}, 0), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(code({}, 1), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace conclave::engine
