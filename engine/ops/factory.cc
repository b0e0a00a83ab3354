// SPDX-License-Identifier: Apache-2.0
#ifdef CONCLAVE_X86_KERNELS
#include <cpuid.h>
#endif

#include <algorithm>
#include <thread>

#include "common/status.h"
#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/ops.h"
#include "engine/ops/reference/reference_ops.h"

namespace conclave::engine {
namespace {

constexpr int32_t kThreadsMax = 1024;

struct CpuKernel {
  const char* name;
  bool (*runs_here)();
  const cpu::Kernels& (*kernels)();
};

bool Always() { return true; }

#ifdef CONCLAVE_X86_KERNELS
// F16C by hand: Clang 14 does not know its name. Leaf 1, ECX bit 29; what the operating system must save is that of
// AVX.
bool HasF16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c(); }
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

// Best first.
constexpr CpuKernel kCpuKernels[] = {
#ifdef CONCLAVE_X86_KERNELS
    {"avx512", HasAvx512, cpu::Avx512Kernels},
    {"avx2", HasAvx2, cpu::Avx2Kernels},
#endif
    {"scalar", Always, cpu::ScalarKernels},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Ops>> MakeOps(const OpsOptions& options) {
  if (options.threads < 0 || options.threads > kThreadsMax) {
    return InvalidArgument("{} threads: give 0 (one per core) to {}", options.threads, kThreadsMax);
  }
  if (options.kernel == "reference") return MakeReferenceOps();
  const int threads = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  for (const CpuKernel& kernel : kCpuKernels) {
    if (options.kernel != "auto" && options.kernel != kernel.name) continue;
    if (kernel.runs_here()) return cpu::MakeCpuOps(kernel.kernels(), std::max(threads, 1));
    if (options.kernel != "auto") {
      return FailedPrecondition("kernel \"{}\": this CPU lacks its instructions; \"auto\" takes the best it has",
                                options.kernel);
    }
  }
  return InvalidArgument("unknown kernel \"{}\": auto, reference, scalar, avx2 and avx512 are known", options.kernel);
}

}  // namespace conclave::engine
