// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads of one process and compute in host memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/comm/communicator.h"

namespace conclave::engine {

// One for each rank, in order. Views must lie in host memory, and ops before a collective have been computed.
std::vector<std::unique_ptr<Communicator>> MakeInProcessGroup(int32_t ranks);

}  // namespace conclave::engine
