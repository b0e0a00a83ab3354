// SPDX-License-Identifier: Apache-2.0
// A program started by a test: its output by lines, its signals, its end. Killed, if it still runs, with the object.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/clock.h"

namespace conclave::testing {

// Not thread-safe. No wait is without a limit: a program that hangs fails its test with what it last said.
class ChildProcess {
 public:
  // arguments[0] is the program's path; stdout and stderr are read through pipes.
  explicit ChildProcess(const std::vector<std::string>& arguments) {
    int out[2], err[2];
    CONCLAVE_CHECK(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    CONCLAVE_CHECK_MSG(posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ) == 0, argv[0]);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    out_.fd = out[0];
    err_.fd = err[0];
  }
  ~ChildProcess() {
    if (running_) {
      kill(pid_, SIGKILL);
      Wait();
    }
    close(out_.fd);
    close(err_.fd);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal) const { kill(pid_, signal); }
  // Returns when all its threads stand still, which after a mere SIGSTOP takes a moment. SIGCONT lets it go on.
  void Stop() const {
    int status = 0;
    kill(pid_, SIGSTOP);
    CONCLAVE_CHECK(waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status));
  }

  // The next line without its newline, or nothing at the end of output or after the time.
  std::optional<std::string> ReadLine(int64_t timeout_ms = 60'000) { return ReadLine(&out_, timeout_ms); }
  std::optional<std::string> ReadErrorLine(int64_t timeout_ms = 60'000) { return ReadLine(&err_, timeout_ms); }
  // Everything it still says on stderr.
  std::string ReadErrors() {
    std::string all;
    while (const auto line = ReadErrorLine()) all += *line + "\n";
    return all;
  }

  // Of /proc/PID/status, in bytes: "VmRSS", "VmHWM".
  int64_t Memory(const std::string& name) const {
    std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1)) * 1024;
    }
    return 0;
  }

  // The exit code, or 128 + the signal that ended it. Blocks; ctest's time limit is the guard.
  int Wait() {
    int status = 0;
    CONCLAVE_CHECK(waitpid(pid_, &status, 0) == pid_);
    running_ = false;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  struct Stream {
    int fd = -1;
    std::string buffer;
  };
  static std::optional<std::string> ReadLine(Stream* stream, int64_t timeout_ms) {
    const int64_t end_ns = Clock::System().NowNs() + timeout_ms * 1'000'000;
    while (true) {
      if (const size_t newline = stream->buffer.find('\n'); newline != std::string::npos) {
        std::string line = stream->buffer.substr(0, newline);
        stream->buffer.erase(0, newline + 1);
        return line;
      }
      const int64_t left_ms = (end_ns - Clock::System().NowNs()) / 1'000'000;
      pollfd readable{stream->fd, POLLIN, 0};
      if (left_ms <= 0 || poll(&readable, 1, static_cast<int>(left_ms)) <= 0) return std::nullopt;
      char bytes[4096];
      const ssize_t n = read(stream->fd, bytes, sizeof(bytes));
      if (n <= 0) return std::nullopt;
      stream->buffer.append(bytes, static_cast<size_t>(n));
    }
  }

  pid_t pid_ = 0;
  bool running_ = true;
  Stream out_, err_;
};

}  // namespace conclave::testing
