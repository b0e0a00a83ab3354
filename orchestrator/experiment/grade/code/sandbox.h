// SPDX-License-Identifier: Apache-2.0
// One process behind walls: bubblewrap with its own user, pid, network, mount, ipc and host-name namespaces; /usr
// read-only and a small tmpfs as all there is of a file system; no /proc; no new processes, sockets or tracing
// (seccomp); limits on memory, CPU seconds and file size. Nothing is ever run without it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::grade::code {

inline constexpr const char* kBubblewrap = "/usr/bin/bwrap";

struct Limits {
  size_t memory_bytes = size_t{1} << 30;  // of address space, each process
  int cpu_seconds = 10;                   // each process; the second after is the last
  int wall_seconds = 30;                  // of the whole
  size_t file_bytes = size_t{16} << 20;   // of one file, and of the tmpfs
};

// A file descriptor, closed at the end of its life.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd() { Close(); }
  int get() const { return fd_; }
  void Close();

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd read;
  Fd write;
};
absl::StatusOr<Pipe> MakePipe();
// An unnamed file that holds `text`, at its beginning.
absl::StatusOr<Fd> MakeFile(const std::string& text);

// A running sandbox. Killed and waited for at the end of its life, with all that runs in it.
class Sandboxed {
 public:
  // Runs argv (argv[0] a path under /usr). In it, descriptor 3 + k is fds[k]; standard input, output and error are
  // /dev/null, or `errors` for the last where it is not negative. Thread-safe.
  static absl::StatusOr<Sandboxed> Start(const std::vector<std::string>& argv, const std::vector<int>& fds,
                                         const Limits& limits, int errors = -1);
  Sandboxed(Sandboxed&& other) noexcept : pid_(std::exchange(other.pid_, -1)), status_(other.status_) {}
  Sandboxed& operator=(Sandboxed&&) = delete;
  ~Sandboxed() { Kill(); }

  // Waits until it has ended, at most so long; false when it has not.
  bool Wait(int milliseconds);
  void Kill();
  // How it ended, as wait(2) says; the exit status is 128 + signal where a signal ended the program inside.
  int status() const { return status_; }

 private:
  explicit Sandboxed(pid_t pid) : pid_(pid) {}
  pid_t pid_;
  int status_ = 0;
};

}  // namespace conclave::grade::code
