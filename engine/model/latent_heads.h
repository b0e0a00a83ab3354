// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: the joined matrix of latent attention, cut into what the kernels want per head.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/model/model_spec.h"
#include "engine/ops/ops.h"

namespace conclave::engine {

struct LatentHeads {
  std::vector<std::byte> floats;     // what could not stay as it was; the sources point into it
  std::vector<WeightSource> keys;    // H x [C, N]: rows and columns exchanged
  std::vector<WeightSource> values;  // H x [Dv, C]
};

// `joined`: [H (N + Dv), C], rows per head unrotated | value. Turned rows are no whole blocks of the file's format any
// more: floats hold what it said. So do values that a reader puts together; the rest point into joined.bytes.
// CHECKs quant::CanDecode(joined.dtype).
LatentHeads SplitLatent(const WeightSource& joined, const LatentAttentionSpec& latent);

}  // namespace conclave::engine
