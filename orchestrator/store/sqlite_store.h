// SPDX-License-Identifier: Apache-2.0
// The durable store: one SQLite file.
//
// WAL with synchronous=FULL: an acknowledged batch survives power loss. One thread with the only writing connection
// does all commits and all checkpoints (Debian's SQLite 3.40 can corrupt a WAL that two connections checkpoint), and
// commits whatever has queued up while the last commit ran, so that many callers share one fsync. Readers have their
// own query_only connections. A lock file keeps a second process out. At start the file is checked (quick_check) and
// migrated.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

struct SqliteOptions {
  std::string path = {};        // the folder must exist; the file is made, readable by its owner only
  int32_t group_ops_max = 256;  // operations in one commit, unless a single batch is larger
  int64_t pages_max = 0;        // 0: none. A small one stands for a full disk in tests
};

// FAILED_PRECONDITION: in use, not ours, newer, or a place where no store can be. DATA_LOSS STORE_CORRUPT: damaged.
absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const SqliteOptions& options);

}  // namespace conclave::orchestrator
