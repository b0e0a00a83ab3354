// SPDX-License-Identifier: Apache-2.0
// The CUDA backend of a build without the CUDA toolkit.
#include <cstring>

#include "common/status.h"
#include "engine/ops/cuda/cuda_ops.h"

namespace conclave::engine::cuda {

absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps() {
  return Unimplemented("this program was built without the CUDA toolkit: build with nvcc, or use --device cpu");
}

void CopyBytes(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

absl::StatusOr<double> ReplaySeconds(Ops* /*ops*/, int /*repeats*/) { return NotFound("a build without CUDA"); }

}  // namespace conclave::engine::cuda
