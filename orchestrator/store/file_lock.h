// SPDX-License-Identifier: Apache-2.0
// One process per store: a lock file beside it, and no file systems whose locks cannot be trusted.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::orchestrator {

// Held for its lifetime; the kernel lets go when the process dies, however it dies.
class FileLock {
 public:
  // FAILED_PRECONDITION STORE_IN_USE, naming the process, when somebody else holds it.
  static absl::StatusOr<std::unique_ptr<FileLock>> Acquire(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

// FAILED_PRECONDITION for a folder on a network file system (NFS, SMB, Lustre, GPFS, Ceph, 9p): SQLite's locks and
// shared memory do not work there.
absl::Status CheckLocalDisk(const std::string& folder);

}  // namespace conclave::orchestrator
