// SPDX-License-Identifier: Apache-2.0
// Large products through cuBLASLt, which is loaded when a CUDA device is used: a program with these kernels starts on
// machines without CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::engine::cuda {

// y[M, N] (+)= x[M, K] w[N, K]^T: x and w bf16 with rows of a multiple of 8 elements, y f32, sums f32.
struct BlasProduct {
  float* y;
  const uint16_t* x;
  const uint16_t* w;
  int64_t m, n, k;
  int64_t y_stride, x_stride, w_stride;
  bool add;
};

class BlasLt {
 public:
  // FAILED_PRECONDITION names the library and where it was looked for. `workspace`: kWorkspaceBytes of device memory.
  static absl::StatusOr<std::unique_ptr<BlasLt>> Load(std::byte* workspace);
  ~BlasLt();
  static constexpr int64_t kWorkspaceBytes = int64_t{64} << 20;

  // Enqueues. The algorithm for a shape is chosen once and kept. NOT_FOUND if the library has none.
  absl::Status Multiply(const BlasProduct& product, cudaStream_t stream);

 private:
  struct Api;
  struct Plan;
  explicit BlasLt(std::byte* workspace);
  absl::StatusOr<Plan*> PlanFor(const BlasProduct& product);

  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;
  std::unique_ptr<Api> api_;
  std::byte* const workspace_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace conclave::engine::cuda
