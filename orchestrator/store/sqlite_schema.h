// SPDX-License-Identifier: Apache-2.0
// Tables of a store file, and the steps from every released version to the present one.
#pragma once

#include "absl/status/status.h"
#include "orchestrator/store/sqlite_db.h"

namespace conclave::orchestrator {

inline constexpr int64_t kSchemaVersion = 1;
inline constexpr int64_t kApplicationId = 0x434e4356;  // "CNCV", so that another program's file is refused

// Brings the file to kSchemaVersion in one transaction. FAILED_PRECONDITION for a newer file or one of another program.
absl::Status Migrate(Db* db);

}  // namespace conclave::orchestrator
