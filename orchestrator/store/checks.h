// SPDX-License-Identifier: Apache-2.0
// Bounds on what a batch may hold, the same for every store.
#pragma once

#include <span>

#include "absl/status/status.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

// INVALID_ARGUMENT for sizes and numbers outside the limits of store.h. Says nothing about what is stored.
absl::Status CheckBatch(std::span<const WriteOp> batch);

// The errors both stores give alike.
absl::Status NoSuchRun(std::string_view run_id);
absl::Status NoSuchRequest(std::string_view request_id);
absl::Status RequestIdReused(std::string_view request_id, std::string_view run_id);
absl::Status RunIsFinished(std::string_view run_id);
absl::Status WrongSequence(std::string_view run_id, int64_t found, int64_t expected);
absl::Status InputBeforeItsEvent(std::string_view run_id, int64_t after, int64_t last);
absl::Status DuplicateResult(const PutResult& result);
absl::Status DuplicateRun(std::string_view run_id);

}  // namespace conclave::orchestrator
