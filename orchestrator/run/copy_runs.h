// SPDX-License-Identifier: Apache-2.0
// Finished runs from one store into another, as they are.
#pragma once

#include <span>
#include <string>

#include "absl/status/status.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

struct AskedRequest {
  std::string id;
  std::string hash;  // RequestHash of what was asked; the store keeps a run with what it became
};

// Copies the run of each request with its events, inputs and graph; the copy answers to the same request id, payload
// and run id. FAILED_PRECONDITION names the first request whose run is not there or not finished; what was copied
// before it stays. ALREADY_EXISTS where `to` has a run of that id. Blocks; no other thread may write to `to`.
absl::Status CopyFinishedRuns(const Store& from, std::span<const AskedRequest> requests, Store* to);

}  // namespace conclave::orchestrator
