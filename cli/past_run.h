// SPDX-License-Identifier: Apache-2.0
// Runs of a store, for commands that look at what was: `replay` and `fork`.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "orchestrator/run/run_record.h"
#include "orchestrator/store/store.h"

namespace conclave::cli {

struct PastRun {
  std::unique_ptr<orchestrator::Store> store;
  orchestrator::StoredRun stored;
  orchestrator::RunRecord record;
};

// NOT_FOUND: no such file.
absl::StatusOr<std::unique_ptr<orchestrator::Store>> OpenPastStore(const std::string& store);
// NOT_FOUND: no such file; no such run, naming the newest ones. `run` is an id, with or without "runs/", or "last".
absl::StatusOr<PastRun> OpenPastRun(const std::string& store, const std::string& run);

// One line per run, the newest first: id, state, graph, what was asked.
absl::StatusOr<std::string> ListPastRuns(const orchestrator::Store& store, int64_t count);

}  // namespace conclave::cli
