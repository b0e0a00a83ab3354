// SPDX-License-Identifier: Apache-2.0
// A disk that fails when a test says so, for programs that are started with LD_PRELOAD of this library:
//   FAILING_DISK_PATH     files whose names begin so are on it
//   FAILING_DISK_CONTROL  a file that says how it is now: "full" (writes end with ENOSPC), "broken" (syncs end with
//   EIO);
//                         anything else, or no file: as ever
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

bool IsOnIt(int fd) {
  const char* begin = getenv("FAILING_DISK_PATH");
  if (begin == nullptr) return false;
  char name[4096];
  const ssize_t size = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), name, sizeof name - 1);
  return size > 0 && strncmp(name, begin, strlen(begin)) == 0;
}

bool Says(const char* how) {
  const char* control = getenv("FAILING_DISK_CONTROL");
  const int fd = control == nullptr ? -1 : open(control, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[16] = {};
  const ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  return size > 0 && strcmp(text, how) == 0;
}

template <typename Function>
Function Real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

bool Fails(int fd, const char* how, int error) {
  if (!IsOnIt(fd) || !Says(how)) return false;
  errno = error;
  return true;
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* bytes, size_t count) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t)>("write");
  return Fails(fd, "full", ENOSPC) ? -1 : real(fd, bytes, count);
}

ssize_t pwrite(int fd, const void* bytes, size_t count, off_t at) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return Fails(fd, "full", ENOSPC) ? -1 : real(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void* bytes, size_t count, off64_t at) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t, off64_t)>("pwrite64");
  return Fails(fd, "full", ENOSPC) ? -1 : real(fd, bytes, count, at);
}

int fsync(int fd) {
  static const auto real = Real<int (*)(int)>("fsync");
  return Fails(fd, "broken", EIO) ? -1 : real(fd);
}

int fdatasync(int fd) {
  static const auto real = Real<int (*)(int)>("fdatasync");
  return Fails(fd, "broken", EIO) ? -1 : real(fd);
}
}
