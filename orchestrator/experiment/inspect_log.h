// SPDX-License-Identifier: Apache-2.0
// Inspect's logs, as JSON and packed (.eval). See import.h for what is read out of them.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/import.h"

namespace conclave::experiment {

// A path that ends in ".eval" is packed. `arm` names rows where the log names no model. INVALID_ARGUMENT
// "file: sample ID: what".
absl::StatusOr<Imported> ImportInspectLog(const std::string& path, const std::string& arm,
                                          const std::string& cluster_field);

}  // namespace conclave::experiment
