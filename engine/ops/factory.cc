// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <thread>

#include "common/status.h"
#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/kernel_choice.h"
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/ops.h"
#include "engine/ops/reference/reference_ops.h"

namespace conclave::engine {
namespace {

constexpr int32_t kThreadsMax = 1024;

}  // namespace

absl::StatusOr<std::unique_ptr<Ops>> MakeOps(const OpsOptions& options) {
  if (options.threads < 0 || options.threads > kThreadsMax) {
    return InvalidArgument("{} threads: give 0 (one per core) to {}", options.threads, kThreadsMax);
  }
  if (options.kernel == "reference") return MakeReferenceOps();
  if (options.kernel == "cuda") return cuda::MakeCudaOps();
  ASSIGN_OR_RETURN(const cpu::Kernels* kernels, cpu::ChooseKernels(options.kernel, cpu::DetectCpu()));
  const int threads = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  return cpu::MakeCpuOps(*kernels, std::max(threads, 1));
}

}  // namespace conclave::engine
