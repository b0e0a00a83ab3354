// SPDX-License-Identifier: Apache-2.0
// What the machine does to the CUDA backend ends in a status: memory that runs out, a kernel that fails.
#include <gtest/gtest.h>

#include "common/status.h"
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/limits.h"
#include "engine/ops/ops_fixture.h"

namespace conclave::engine::cuda {
namespace {

using testing::Must;
using testing::NewView;
using testing::TestBatch;
using testing::TestWeight;

constexpr float kOne[] = {1.0f};

class CudaFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    auto ops = MakeCudaOps();
    if (!ops.ok()) GTEST_SKIP() << ops.status();
    ops_ = *std::move(ops);
  }
  std::unique_ptr<Ops> ops_;
};

TEST_F(CudaFaults, MemoryThatRunsOutSaysHowMuchIsMissing) {
  const auto view = ops_->Allocate(DType::kF32, {int64_t{1} << 40});
  EXPECT_EQ(view.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(Message(view.status()).find("bytes short"), std::string_view::npos) << view.status();
  // The backend goes on working.
  EXPECT_TRUE(ops_->Allocate(DType::kF32, {1024}).ok());
  // So does one whose plan does not fit.
  EXPECT_EQ(ops_->Prepare({60000, 1024, 1 << 20, 65536, 1}, {65536, 256, 256, false, 1.0f, 16}).code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(CudaFaults, WhatCannotBeIsRefused) {
  const Ops::StepLimits limits = {8, 2, 16, 6, 2};
  EXPECT_EQ(ops_->Prepare(limits, {2, 24, 24, false, 1.0f, 24}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ops_->Prepare(limits, {1, 257, 24, false, 1.0f, 16}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(ops_->Prepare(limits, {1, 256, 256, false, 1.0f, 16}).ok());
  std::mt19937 rng(1);
  for (const DType dtype : std::span(testing::kWeightDTypes).last(testing::kNotOnCuda)) {
    const TestWeight file(dtype, 16, 256, &rng);
    const WeightSource source = file.source();
    const absl::Status refused = ops_->MakeWeight({&source, 1}, WeightUse::kMatmul).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
    EXPECT_NE(Message(refused).find(Name(dtype)), std::string_view::npos) << refused;
  }
  EXPECT_EQ(ops_->Prepare(limits, {1, 577, 512, true, 1.0f, 16}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ops_->Prepare(limits, {1, 576, 513, true, 1.0f, 16}).code(), absl::StatusCode::kInvalidArgument);
  const std::vector<WeightSource> many(kExpertsMax + 1,
                                       WeightSource{DType::kF32, 1, 1, std::as_bytes(std::span(kOne))});
  const auto stack = [&](size_t count) {
    return ops_->MakeWeightStack(std::span(many).first(count), static_cast<int64_t>(count), StackUse::kExperts)
        .status()
        .code();
  };
  EXPECT_EQ(stack(many.size()), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(stack(many.size() - 1), absl::StatusCode::kOk);
  const TestWeight half(DType::kF16, 2, 8, &rng), single(DType::kF32, 2, 8, &rng);
  const WeightSource mixed[] = {half.source(), single.source()};
  EXPECT_EQ(ops_->MakeWeightStack(mixed, 2, StackUse::kExperts).status().code(), absl::StatusCode::kUnimplemented);
}

// Last: a device fault stays for the rest of the process.
TEST_F(CudaFaults, ZKernelFaultsEndTheStepAndEveryLaterOne) {
  ASSERT_TRUE(ops_->Prepare({8, 2, 16, 6, 2}, {2, 16, 16, false, 1.0f, 16}).ok());
  const View good = NewView(ops_.get(), {1, 16});
  const int32_t pages[] = {0};
  TestBatch batch;
  batch.Add(0, 1, pages, 16);
  ops_->BeginStep(batch.batch());
  const View nowhere{reinterpret_cast<std::byte*>(uintptr_t{4096}), DType::kF32, {1, 32}};
  ops_->SwiGlu(good, nowhere);
  const absl::Status fault = ops_->EndStep(View{}, {});
  EXPECT_EQ(fault.code(), absl::StatusCode::kInternal);
  EXPECT_NE(Message(fault).find("CUDA error"), std::string_view::npos) << fault;
  ops_->BeginStep(batch.batch());
  EXPECT_EQ(ops_->EndStep(View{}, {}), fault);
}

}  // namespace
}  // namespace conclave::engine::cuda
