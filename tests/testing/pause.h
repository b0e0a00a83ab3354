// SPDX-License-Identifier: Apache-2.0
// Between two looks at a condition of another process, which nobody signals.
#pragma once

#include "common/mutex.h"

namespace conclave::testing {

inline void Pause() {
  Mutex nobody;
  CondVar never;
  MutexLock lock(&nobody);
  never.WaitWithTimeout(&nobody, 10'000'000);
}

}  // namespace conclave::testing
