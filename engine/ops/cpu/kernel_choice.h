// SPDX-License-Identifier: Apache-2.0
// Which kernels this CPU runs, and which one a name means.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/ops/cpu/kernels.h"

namespace conclave::engine::cpu {

// Instruction sets present and enabled by the operating system.
struct CpuFeatures {
  bool avx2 = false;    // AVX2, FMA, F16C
  bool avx512 = false;  // the above and AVX-512 F, BW, VL, DQ, VNNI
};

CpuFeatures DetectCpu();

// "auto": the best that `features` allow. INVALID_ARGUMENT for an unknown name, FAILED_PRECONDITION for kernels that
// need more than `features`.
absl::StatusOr<const Kernels*> ChooseKernels(std::string_view name, const CpuFeatures& features);

}  // namespace conclave::engine::cpu
