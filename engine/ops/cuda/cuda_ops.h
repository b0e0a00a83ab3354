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
// Between BeginStep and EndStep, buffers must not be read or written from outside: a step whose shape and calls repeat
// is replayed as one graph, which begins with its first call if that is an embedding, else at EndStep. Keys and values
// are kept as f16. Products of plain formats with up to 4 rows multiply in f32; all others round activations to bf16
// (F16 weights with more than 6 rows and block formats with more than 8 also the weights) and add in f32.
absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps();

// Copies between host and device memory in either direction, after all that is enqueued. For tests and benchmarks.
void CopyBytes(void* to, const void* from, size_t bytes);

// Seconds on the device of the most recent step, if it is one that is replayed as a graph: the mean of `repeats`
// replays in a row. NOT_FOUND without such a step. For benchmarks.
absl::StatusOr<double> ReplaySeconds(Ops* ops, int repeats);

}  // namespace conclave::engine::cuda
