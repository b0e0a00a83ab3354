// SPDX-License-Identifier: Apache-2.0
// A store that forgets: for tests, simulations, and commands that keep nothing.
#pragma once

#include <memory>

#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

// Callbacks run inside Write, on the caller's thread.
std::unique_ptr<Store> NewMemoryStore();

}  // namespace conclave::orchestrator
