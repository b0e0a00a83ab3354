// SPDX-License-Identifier: Apache-2.0
// The oracle: every op as its formula, accumulated in double, one thread, no tricks. Weights are decoded to float
// exactly as the file defines them; results are rounded to float once, when stored. Keys and values stay float.
#pragma once

#include <memory>

#include "engine/ops/ops.h"

namespace conclave::engine {

std::unique_ptr<Ops> MakeReferenceOps();

}  // namespace conclave::engine
