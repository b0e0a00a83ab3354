// SPDX-License-Identifier: Apache-2.0
// What must hold of a world that has come to its end.
#pragma once

#include <functional>
#include <string>

#include "orchestrator/simulation/sim_client.h"
#include "orchestrator/simulation/simulation.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

struct SimCircumstances {
  // The orchestrator was there all the time and could write: then wall time is what it says.
  bool served_throughout = false;
};

// Looks at what the store holds of the client's run, and at what the client saw of it.
void CheckRun(const Store& disk, const SimClient& client, const SimCircumstances& circumstances,
              const std::function<void(const std::string&)>& violation, SimReport* report);

}  // namespace conclave::orchestrator
