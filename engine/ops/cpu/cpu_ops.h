// SPDX-License-Identifier: Apache-2.0
// The CPU backend: one implementation of Ops over a kernel table (kernels.h) and a thread pool.
//
// Results do not depend on the number of threads, on which tokens share a step, on page layout or on prefix sharing:
// a row's numbers are the same bits whatever it is computed with (kernels.h states the contract, cpu_ops_test.cc and
// ops_conformance_test.cc check it).
#pragma once

#include <memory>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/ops.h"

namespace conclave::engine::cpu {

// `kernels` must be one this CPU runs. `threads` >= 1, the caller included.
std::unique_ptr<Ops> MakeCpuOps(const Kernels& kernels, int threads);

}  // namespace conclave::engine::cpu
