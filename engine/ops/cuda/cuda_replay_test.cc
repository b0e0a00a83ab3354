// SPDX-License-Identifier: Apache-2.0
// Steps that come again are replayed as graphs. A step that begins like one of those and goes on differently gives what
// it would have given had there been no other.
#include <gtest/gtest.h>

#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/ops_fixture.h"

namespace conclave::engine::cuda {
namespace {

using testing::Must;
using testing::NewView;
using testing::TestBatch;
using testing::TestWeight;
using testing::Values;

constexpr int64_t kRows = 48, kWidth = 64;

class CudaReplay : public ::testing::Test {
 protected:
  CudaReplay() : table_(DType::kBF16, kRows, kWidth, &rng_), other_(DType::kBF16, kRows, kWidth, &rng_) {}

  void SetUp() override {
    auto ops = MakeCudaOps();
    if (!ops.ok()) GTEST_SKIP() << ops.status();
    ops_ = *std::move(ops);
    const WeightSource sources[] = {table_.source(), other_.source()};
    for (int i = 0; i < 2; ++i) {
      weights_[i] = Must(ops_->MakeWeight({&sources[i], 1}, WeightUse::kEmbeddingAndMatmul));
    }
    ASSERT_TRUE(ops_->Prepare({8, 2, 16, 6, 2}, {2, 16, 16, false, 1.0f, 16}).ok());
    x_ = NewView(ops_.get(), {1, kWidth});
    y_ = NewView(ops_.get(), {1, kRows});
  }

  // y = w x + w' x, the second time only if `twice`; x a row of the table.
  std::vector<float> Step(int weight, bool twice, int32_t token) {
    const int32_t pages[] = {0};
    TestBatch batch;
    batch.Add(3, 1, pages, 16);
    batch.tokens[0] = token;
    ops_->Embed(x_, *weights_[0], ops_->BeginStep(batch.batch()));
    ops_->Gemm(y_, x_, *weights_[weight], Accumulate::kSet);
    if (twice) ops_->Gemm(y_, x_, *weights_[1], Accumulate::kAdd);
    EXPECT_TRUE(ops_->EndStep(View{}, {}).ok());
    return Values(y_);
  }

  // The same in f32 on the host: products of few rows with plain weights are exact but for f32 sums.
  std::vector<float> Expected(int weight, bool twice, int32_t token) const {
    const auto value = [](const TestWeight& w, int64_t row, int64_t k) {
      uint32_t bits = 0;
      std::memcpy(reinterpret_cast<std::byte*>(&bits) + 2, w.bytes.data() + (row * kWidth + k) * 2, 2);
      float f = 0;
      std::memcpy(&f, &bits, 4);
      return static_cast<double>(f);
    };
    std::vector<float> y;
    for (int64_t row = 0; row < kRows; ++row) {
      double sum = 0;
      for (int64_t k = 0; k < kWidth; ++k) {
        const double x = value(table_, token, k);
        sum += x * value(weight == 0 ? table_ : other_, row, k) + (twice ? x * value(other_, row, k) : 0);
      }
      y.push_back(static_cast<float>(sum));
    }
    return y;
  }

  void Check(int weight, bool twice, int32_t token) {
    const std::vector<float> y = Step(weight, twice, token), expected = Expected(weight, twice, token);
    for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 1e-5f) << "row " << i;
  }

  std::mt19937 rng_{5};
  TestWeight table_, other_;
  std::unique_ptr<Ops> ops_;
  const Weight* weights_[2] = {};
  View x_, y_;
};

TEST_F(CudaReplay, StepsWithOtherTokens) {
  for (int32_t token = 0; token < 6; ++token) Check(0, false, token);
  EXPECT_GT(Must(ReplaySeconds(ops_.get(), 3)), 0.0);
  Check(0, false, 40);
}

TEST_F(CudaReplay, StepsThatGoOnDifferently) {
  for (int32_t token = 0; token < 4; ++token) Check(0, true, token);  // a graph from the third on
  Check(1, true, 7);                                                  // another second call
  for (int32_t token = 0; token < 4; ++token) Check(1, true, token);
  Check(1, false, 9);  // ends earlier
  for (int32_t token = 0; token < 4; ++token) Check(1, false, token);
  Check(1, true, 11);  // goes on longer
}

}  // namespace
}  // namespace conclave::engine::cuda
