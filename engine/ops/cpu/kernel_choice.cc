// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/kernel_choice.h"

#ifdef CONCLAVE_X86_KERNELS
#include <cpuid.h>
#endif

#include "common/status.h"

namespace conclave::engine::cpu {
namespace {

struct Choice {
  std::string_view name;
  bool (*runs)(const CpuFeatures& features);
  const Kernels& (*kernels)();
};

// Best first.
constexpr Choice kChoices[] = {
#ifdef CONCLAVE_X86_KERNELS
    {"avx512", [](const CpuFeatures& f) { return f.avx512; }, Avx512Kernels},
    {"avx2", [](const CpuFeatures& f) { return f.avx2; }, Avx2Kernels},
#endif
    {"scalar", [](const CpuFeatures&) { return true; }, ScalarKernels},
};

#ifdef CONCLAVE_X86_KERNELS
// By hand: Clang 14 does not know the name. Leaf 1, ECX bit 29; the operating system's part in it is that of AVX.
bool HasF16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

}  // namespace

CpuFeatures DetectCpu() {
  CpuFeatures features;
#ifdef CONCLAVE_X86_KERNELS
  features.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
  features.avx512 = features.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vnni");
#endif
  return features;
}

absl::StatusOr<const Kernels*> ChooseKernels(std::string_view name, const CpuFeatures& features) {
  for (const Choice& choice : kChoices) {
    if (name != "auto" && name != choice.name) continue;
    if (choice.runs(features)) return &choice.kernels();
    if (name != "auto") {
      return FailedPrecondition("kernel \"{}\": this CPU lacks its instructions; \"auto\" takes the best it has", name);
    }
  }
  return InvalidArgument("unknown kernel \"{}\": auto, reference, scalar, avx2 and avx512 are known", name);
}

}  // namespace conclave::engine::cpu
