// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/store/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

struct NetworkFileSystem {
  uint32_t magic;  // statfs(2), linux/magic.h, and the file systems' own sources
  std::string_view name;
};
constexpr std::array<NetworkFileSystem, 8> kNetworkFileSystems = {{{0x6969, "NFS"},
                                                                   {0x517b, "SMB"},
                                                                   {0xff534d42, "CIFS"},
                                                                   {0xfe534d42, "SMB2"},
                                                                   {0x0bd00bd0, "Lustre"},
                                                                   {0x47504653, "GPFS"},
                                                                   {0x00c36400, "Ceph"},
                                                                   {0x01021997, "9p"}}};

}  // namespace

absl::StatusOr<std::unique_ptr<FileLock>> FileLock::Acquire(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (fd < 0) {
    return FailedPrecondition("{}: cannot be created: {}; check that the folder exists and may be written", path,
                              std::strerror(errno));  // NOLINT(concurrency-mt-unsafe)
  }
  std::unique_ptr<FileLock> lock(new FileLock(fd));
  // flock belongs to the open file: a second open in the same process is refused too, and no close elsewhere drops it.
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    std::array<char, 32> holder{};
    const ssize_t size = pread(fd, holder.data(), holder.size() - 1, 0);
    return FailedPrecondition("STORE_IN_USE: {} is held by process {}; stop that orchestrator or name another store",
                              path, size > 0 ? holder.data() : "?");
  }
  const std::string pid = std::to_string(getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid.data(), pid.size(), 0) < 0) {
    // The number is for people; the lock holds without it.
  }
  return lock;
}

FileLock::~FileLock() { close(fd_); }

absl::Status CheckLocalDisk(const std::string& folder) {
  struct statfs info {};
  if (statfs(folder.c_str(), &info) != 0) {
    return FailedPrecondition("{}: {}; create the folder first", folder,
                              std::strerror(errno));  // NOLINT(concurrency-mt-unsafe)
  }
  for (const NetworkFileSystem& known : kNetworkFileSystems) {
    if (static_cast<uint32_t>(info.f_type) != known.magic) continue;
    return FailedPrecondition("{} is on {}, where SQLite's locks cannot be trusted; put the store on a local disk",
                              folder, known.name);
  }
  return absl::OkStatus();
}

}  // namespace conclave::orchestrator
