// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/fleet/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

constexpr std::string_view kServing = "serving conclave.inference.v1 on ";
constexpr int kExitBadInput = 65;
constexpr int64_t kTerminateNs = 2'000'000'000;
constexpr int kPollMs = 50;

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::Start(const std::vector<std::string>& arguments) {
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) return Internal("cannot make a pipe: {}", std::strerror(errno));
  const int err = memfd_create("conclave-worker-stderr", MFD_CLOEXEC);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    // Only async-signal-safe calls until exec.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    setpgid(0, 0);  // a Ctrl-C at the terminal reaches the parent alone, which then stops its workers in order
    dup2(out[1], STDOUT_FILENO);
    if (err >= 0) dup2(err, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  const int error = errno;
  close(out[1]);
  if (pid < 0) {
    close(out[0]);
    if (err >= 0) close(err);
    return ResourceExhausted("cannot start {}: {}", arguments[0], std::strerror(error));
  }
  fcntl(out[0], F_SETFL, O_NONBLOCK);
  return std::unique_ptr<WorkerProcess>(new WorkerProcess(pid, out[0], err));
}

WorkerProcess::~WorkerProcess() {
  if (!HasEnded()) {
    Terminate();
    const int64_t deadline = Clock::System().NowNs() + kTerminateNs;
    while (!HasEnded() && Clock::System().NowNs() < deadline) poll(nullptr, 0, kPollMs);
    if (!HasEnded()) {
      kill(pid_, SIGKILL);
      waitpid(pid_, &wait_status_, 0);
    }
  }
  close(stdout_fd_);
  if (stderr_fd_ >= 0) close(stderr_fd_);
}

bool WorkerProcess::HasEnded() {
  if (!ended_) ended_ = waitpid(pid_, &wait_status_, WNOHANG) != 0;
  return ended_;
}

void WorkerProcess::Terminate() const { kill(pid_, SIGTERM); }

std::string WorkerProcess::LastWords() const {
  if (stderr_fd_ < 0) return "";
  char buffer[1024];
  const off_t end = lseek(stderr_fd_, 0, SEEK_END);
  const off_t begin = end > static_cast<off_t>(sizeof(buffer)) ? end - static_cast<off_t>(sizeof(buffer)) : 0;
  const ssize_t n = pread(stderr_fd_, buffer, sizeof(buffer), begin);
  std::string text(buffer, n > 0 ? static_cast<size_t>(n) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const size_t newline = text.rfind('\n');
  return newline == text.npos ? text : text.substr(newline + 1);
}

std::string WorkerProcess::HowItEnded() const {
  if (WIFSIGNALED(wait_status_)) return fmt::format("was killed by signal {}", WTERMSIG(wait_status_));
  const std::string words = LastWords();
  return fmt::format("exited with code {}{}{}", WEXITSTATUS(wait_status_), words.empty() ? "" : ": ", words);
}

absl::StatusOr<std::string> WorkerProcess::WaitUntilServing(int64_t timeout_ns, const Clock& clock) {
  const int64_t deadline = clock.NowNs() + timeout_ns;
  while (true) {
    char buffer[512];
    for (ssize_t n; (n = read(stdout_fd_, buffer, sizeof(buffer))) > 0;) output_.append(buffer, static_cast<size_t>(n));
    const size_t at = output_.find(kServing);
    const size_t newline = at == output_.npos ? at : output_.find('\n', at);
    if (newline != output_.npos) {
      const size_t begin = at + kServing.size();
      return output_.substr(begin, output_.find_first_of(" \n", begin) - begin);
    }
    if (HasEnded()) {
      const std::string words = LastWords();
      if (WIFEXITED(wait_status_) && WEXITSTATUS(wait_status_) == 127)
        return NotFound("the worker binary cannot be run");
      if (WIFEXITED(wait_status_) && WEXITSTATUS(wait_status_) == kExitBadInput) return InvalidArgument("{}", words);
      return Unavailable("the worker ended while starting: {}", words.empty() ? "it said nothing" : words);
    }
    if (clock.NowNs() > deadline)
      return DeadlineExceeded("the worker did not serve within {} s", timeout_ns / 1'000'000'000);
    pollfd fd{stdout_fd_, POLLIN, 0};
    poll(&fd, 1, kPollMs);
  }
}

}  // namespace conclave::orchestrator
