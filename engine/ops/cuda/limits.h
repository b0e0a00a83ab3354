// SPDX-License-Identifier: Apache-2.0
// What the CUDA backend does at most.
#pragma once

#include <cstdint>

namespace conclave::engine::cuda {

inline constexpr int32_t kExpertsMax = 2048;

}  // namespace conclave::engine::cuda
