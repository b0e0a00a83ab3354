// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/store/store.h"

#include <utility>

#include "common/mutex.h"

namespace conclave::orchestrator {

WriteResult WriteAndWait(Store* store, std::vector<WriteOp> batch) {
  Mutex mutex;
  CondVar changed;
  std::optional<WriteResult> result;
  store->Write(std::move(batch), [&](WriteResult r) {
    MutexLock lock(&mutex);
    result = std::move(r);
    changed.SignalAll();  // under the lock: the waiter must not destroy `changed` while it is signalled
  });
  MutexLock lock(&mutex);
  while (!result.has_value()) changed.Wait(&mutex);
  return *std::move(result);
}

}  // namespace conclave::orchestrator
