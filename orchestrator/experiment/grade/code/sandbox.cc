// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/code/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "common/status.h"
#include "orchestrator/experiment/grade/code/seccomp.h"

namespace conclave::grade::code {
namespace {

constexpr int kFirstFd = 3;    // of those passed on
constexpr int kAboveAll = 64;  // copies are made above every number that is passed on
constexpr int kPollMs = 2;

// The walls; the program follows.
std::vector<std::string> Walls(int seccomp_fd, const Limits& limits) {
  std::vector<std::string> argv = {kBubblewrap,
                                   "--unshare-all",
                                   "--unshare-user",
                                   "--uid",
                                   "65534",
                                   "--gid",
                                   "65534",
                                   "--die-with-parent",
                                   "--new-session",
                                   "--cap-drop",
                                   "ALL",
                                   "--hostname",
                                   "sandbox",
                                   "--clearenv",
                                   "--setenv",
                                   "PATH",
                                   "/usr/bin",
                                   "--setenv",
                                   "HOME",
                                   "/tmp",
                                   "--setenv",
                                   "PYTHONHASHSEED",
                                   "0",
                                   "--setenv",
                                   "LC_ALL",
                                   "C.UTF-8",
                                   "--ro-bind",
                                   "/usr",
                                   "/usr"};
  for (const char* link : {"/bin", "/lib", "/lib64"}) {
    std::error_code error;
    const std::filesystem::path target = std::filesystem::read_symlink(link, error);
    if (!error) {
      argv.insert(argv.end(), {"--symlink", target.string(), link});
    } else if (std::filesystem::is_directory(link, error)) {
      argv.insert(argv.end(), {"--ro-bind", link, link});
    }
  }
  argv.insert(argv.end(), {"--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null", "--size",
                           std::to_string(limits.file_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/",
                           "--seccomp", std::to_string(seccomp_fd), "--"});
  return argv;
}

// In the child, before exec: only async-signal-safe calls. False when a limit cannot be set.
bool Confine(const Limits& limits) {
  const auto set = [](int resource, size_t soft, size_t hard) {
    const rlimit limit = {soft, hard};
    return setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0;
  };
  const auto cpu = static_cast<size_t>(limits.cpu_seconds);
  return set(RLIMIT_AS, limits.memory_bytes, limits.memory_bytes) && set(RLIMIT_CPU, cpu, cpu + 1) &&
         set(RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes) && set(RLIMIT_CORE, 0, 0) &&
         set(RLIMIT_NOFILE, kAboveAll, kAboveAll);
}

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Fd::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ResourceExhausted("cannot make a pipe: {}", std::strerror(errno));
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

absl::StatusOr<Fd> MakeFile(const std::string& text) {
  Fd file(memfd_create("conclave-code", MFD_CLOEXEC));
  if (file.get() < 0) return ResourceExhausted("cannot make a file in memory: {}", std::strerror(errno));
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = write(file.get(), text.data() + done, text.size() - done);
    if (n <= 0) return ResourceExhausted("cannot fill a file in memory: {}", std::strerror(errno));
    done += static_cast<size_t>(n);
  }
  lseek(file.get(), 0, SEEK_SET);
  return file;
}

absl::StatusOr<Sandboxed> Sandboxed::Start(const std::vector<std::string>& argv, const std::vector<int>& fds,
                                           const Limits& limits, int errors) {
  ASSIGN_OR_RETURN(const Fd filter, MakeFile(SeccompFilter()));
  const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null.get() < 0) return Internal("cannot open /dev/null: {}", std::strerror(errno));
  // Sources lie above all targets, so that no dup2 overwrites one that is still needed.
  std::vector<Fd> sources;
  std::vector<int> wanted = fds;
  wanted.push_back(filter.get());
  for (int fd : wanted) {
    sources.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, kAboveAll));
    if (sources.back().get() < 0) return ResourceExhausted("cannot copy a descriptor: {}", std::strerror(errno));
  }
  std::vector<std::string> words = Walls(kFirstFd + static_cast<int>(fds.size()), limits);
  words.insert(words.end(), argv.begin(), argv.end());
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const int error_fd = errors >= 0 ? errors : null.get();
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    dup2(null.get(), STDIN_FILENO);
    dup2(null.get(), STDOUT_FILENO);
    dup2(error_fd, STDERR_FILENO);
    for (size_t k = 0; k < sources.size(); ++k) dup2(sources[k].get(), kFirstFd + static_cast<int>(k));
    if (!Confine(limits)) _exit(126);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
  if (pid < 0) return ResourceExhausted("cannot start a process: {}", std::strerror(errno));
  return Sandboxed(pid);
}

bool Sandboxed::Wait(int milliseconds) {
  for (int waited = 0; pid_ > 0; waited += kPollMs) {
    const pid_t ended = waitpid(pid_, &status_, WNOHANG);
    if (ended == pid_ || (ended < 0 && errno == ECHILD)) {
      pid_ = -1;
      break;
    }
    if (waited >= milliseconds) return false;
    poll(nullptr, 0, kPollMs);
  }
  return true;
}

void Sandboxed::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);  // --die-with-parent: everything inside goes with it
  while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

}  // namespace conclave::grade::code
