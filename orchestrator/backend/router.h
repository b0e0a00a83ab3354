// SPDX-License-Identifier: Apache-2.0
// Several backends as one: each call goes to the backend of its member.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/backend/backend.h"

namespace conclave::orchestrator {

// `order`: names of all members, as Describe lists them. INVALID_ARGUMENT for a member of none or of two backends.
absl::StatusOr<std::unique_ptr<Backend>> NewRouter(std::vector<std::unique_ptr<Backend>> backends,
                                                   std::vector<std::string> order);

}  // namespace conclave::orchestrator
