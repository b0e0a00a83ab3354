// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/kernel_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"

namespace conclave::engine::cpu {
namespace {

using ::testing::HasSubstr;

std::string_view ChosenName(std::string_view name, const CpuFeatures& features) {
  const absl::StatusOr<const Kernels*> kernels = ChooseKernels(name, features);
  return kernels.ok() ? (*kernels)->name : "none";
}

TEST(ChooseKernels, ScalarRunsEverywhere) {
  EXPECT_EQ(ChosenName("scalar", {}), "scalar");
  EXPECT_EQ(ChosenName("auto", {}), "scalar");
}

#if defined(__x86_64__)
TEST(ChooseKernels, AutoTakesTheBest) {
  EXPECT_EQ(ChosenName("auto", {.avx2 = true}), "avx2");
  EXPECT_EQ(ChosenName("auto", {.avx2 = true, .avx512 = true}), "avx512");
  EXPECT_EQ(ChosenName("avx2", {.avx2 = true, .avx512 = true}), "avx2");
}

TEST(ChooseKernels, ForcedButNotPossible) {
  for (const char* name : {"avx2", "avx512"}) {
    const absl::Status status = ChooseKernels(name, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(Message(status)), HasSubstr(name));
  }
  EXPECT_EQ(ChooseKernels("avx512", {.avx2 = true}).status().code(), absl::StatusCode::kFailedPrecondition);
}
#endif

TEST(ChooseKernels, UnknownNameListsTheKnownOnes) {
  const absl::Status status = ChooseKernels("sse9", {.avx2 = true}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("avx512"));
}

}  // namespace
}  // namespace conclave::engine::cpu
