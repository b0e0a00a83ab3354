// SPDX-License-Identifier: Apache-2.0
// One conclave-worker as a child process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"

namespace conclave::orchestrator {

// Not thread-safe, except that Kill may be called while another thread waits. The child dies with the thread that
// started it (PR_SET_PDEATHSIG), so start it from one that lives as long as the object.
class WorkerProcess {
 public:
  // Runs `arguments` (the first is the binary). What it writes to stderr is kept, for its last words.
  static absl::StatusOr<std::unique_ptr<WorkerProcess>> Start(const std::vector<std::string>& arguments);
  // Terminates the child (SIGTERM, then SIGKILL after two seconds) and waits for it.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  // Waits for the line "serving conclave.inference.v1 on ADDRESS .." on its stdout and returns the address.
  // Its own error, with its exit's meaning, if it ends before; DEADLINE_EXCEEDED.
  absl::StatusOr<std::string> WaitUntilServing(int64_t timeout_ns, const Clock& clock);

  pid_t pid() const { return pid_; }
  // True once the child has ended; reaps it.
  bool HasEnded();
  // Of one that has ended: "was killed by signal 9", "exited with code 1: its last words".
  std::string HowItEnded() const;
  void Terminate() const;  // SIGTERM: drain and exit
  // The last line it wrote to stderr, at most 1 KiB.
  std::string LastWords() const;

 private:
  WorkerProcess(pid_t pid, int stdout_fd, int stderr_fd) : pid_(pid), stdout_fd_(stdout_fd), stderr_fd_(stderr_fd) {}

  const pid_t pid_;
  const int stdout_fd_;  // read end of a pipe
  const int stderr_fd_;  // a memory file
  bool ended_ = false;
  int wait_status_ = 0;
  std::string output_;
};

}  // namespace conclave::orchestrator
