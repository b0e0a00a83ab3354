// SPDX-License-Identifier: Apache-2.0
// The CUDA backend: one device (the first visible), one stream. A build without the CUDA toolkit has the same
// functions, which say so (no_cuda.cc).
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/ops/ops.h"

namespace conclave::engine::cuda {

// FAILED_PRECONDITION without a device or cuBLASLt, UNIMPLEMENTED in a build without CUDA.
//
// Between BeginStep and EndStep, buffers must not be read from outside: a step whose shape and calls repeat is replayed
// as one graph at EndStep. Keys and values are kept as f16. Products of plain formats with up to 4 rows multiply in
// f32; all others round activations to bf16 (F16 weights with more than 6 rows also the weights) and add in f32.
absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps();

// Copies between host and device memory in either direction, after all that is enqueued. For tests and benchmarks.
void CopyBytes(void* to, const void* from, size_t bytes);

}  // namespace conclave::engine::cuda
