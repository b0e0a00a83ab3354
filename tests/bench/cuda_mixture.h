// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts and latent attention on the CUDA backend, beside the device's roofs: random weights of the shapes
// of Qwen3-30B-A3B, and of DeepSeek-V3 cut to the layers that fit.
#pragma once

#include <string>

#include "engine/tensor/dtype.h"
#include "tests/bench/cuda_measure.h"

namespace conclave::engine {

// `shape`: "30b-a3b", "v3", "tiny-mixture" or "tiny-latent". `layers`: of the model, 0: as many as the shape says.
void RunMixture(const std::string& shape, DType dtype, int layers, Lines* lines);
bool IsMixture(const std::string& shape);

}  // namespace conclave::engine
