// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/code/judge.h"

#include <poll.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/status.h"
#include "orchestrator/experiment/grade/code/harness.h"

namespace conclave::grade::code {
namespace {

constexpr const char* kPython = "/usr/bin/python3";
constexpr size_t kVerdictBytesMax = 4096;
constexpr int kSettleMs = 2000;  // for a process that has closed its pipe to be gone

std::string Nonce() {
  std::array<uint64_t, 2> bits{};
  if (getrandom(bits.data(), sizeof(bits), 0) != sizeof(bits)) return "";
  return fmt::format("{:016x}{:016x}", bits[0], bits[1]);
}

// A Python literal of any bytes that are UTF-8; others are escaped one by one.
std::string Literal(std::string_view text) {
  std::string out = "'";
  for (char c : text) {
    if (c == '\'' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::vector<std::string> Python(const char* program) {
  return {kPython, "-I", "-S", "-B", "-c", std::string(kWire) + program};
}

// What comes through the pipe until it closes or the time is up.
std::string ReadUntil(int fd, int64_t deadline_ns, const Clock& clock, bool& timed_out) {
  std::string text;
  std::array<char, 512> buffer{};
  timed_out = false;
  while (text.size() < kVerdictBytesMax) {
    const int64_t left_ms = (deadline_ns - clock.NowNs()) / 1'000'000;
    pollfd wait = {fd, POLLIN, 0};
    const int ready = left_ms > 0 ? poll(&wait, 1, static_cast<int>(left_ms)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) timed_out = true;
    if (ready <= 0) break;
    const ssize_t n = read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  return text;
}

bool Says(std::string_view text, const std::string& nonce, std::string_view word) {
  return text.find(fmt::format("{} {}\n", nonce, word)) != std::string_view::npos;
}

// A program that has gone: by the CPU limit (SIGXCPU, then SIGKILL), or by itself.
Result HowItWent(Sandboxed& candidate) {
  if (!candidate.Wait(kSettleMs)) return Result::kExited;
  const int status = candidate.status();
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return code == 128 + SIGXCPU || code == 128 + SIGKILL ? Result::kTimeout : Result::kExited;
}

absl::StatusOr<Result> Run(const Problem& problem, const std::string& program, const Limits& limits, const Clock& clock,
                           int errors) {
  const int64_t deadline = clock.NowNs() + int64_t{limits.wall_seconds} * 1'000'000'000;
  const std::string nonce = Nonce();
  if (nonce.empty()) return Internal("the kernel gave no random bytes");
  ASSIGN_OR_RETURN(const Fd job, MakeFile(fmt::format("({},{},{},{})", Literal(nonce), Literal(problem.prompt),
                                                      Literal(problem.test), Literal(problem.entry_point))));
  ASSIGN_OR_RETURN(const Fd source, MakeFile(program));
  ASSIGN_OR_RETURN(Pipe calls, MakePipe());
  ASSIGN_OR_RETURN(Pipe answers, MakePipe());
  ASSIGN_OR_RETURN(Pipe verdict, MakePipe());
  ASSIGN_OR_RETURN(
      Sandboxed judge,
      Sandboxed::Start(Python(kJudge), {job.get(), calls.write.get(), answers.read.get(), verdict.write.get()}, limits,
                       errors));
  ASSIGN_OR_RETURN(
      Sandboxed candidate,
      Sandboxed::Start(Python(kCandidate), {source.get(), calls.read.get(), answers.write.get()}, limits, errors));
  // Ours are closed, so that the end of either process is seen by the other.
  for (Fd* fd : {&calls.read, &calls.write, &answers.read, &answers.write, &verdict.write}) fd->Close();
  bool timed_out = false;
  const std::string said = ReadUntil(verdict.read.get(), deadline, clock, timed_out);
  if (!Says(said, nonce, "started")) return timed_out ? Result::kTimeout : Result::kSandbox;
  if (Says(said, nonce, "passed")) return Result::kPassed;
  if (Says(said, nonce, "memory")) return Result::kMemory;
  if (Says(said, nonce, "raised")) return Result::kRaised;
  if (Says(said, nonce, "failed")) return Result::kFailed;
  if (timed_out) return Result::kTimeout;
  return HowItWent(candidate);
}

absl::Status Probe() {
  for (const char* path : {kBubblewrap, kPython}) {
    if (access(path, X_OK) != 0) {
      return FailedPrecondition("grader \"code\" needs {}, which is not here; install bubblewrap and python3", path);
    }
  }
  ASSIGN_OR_RETURN(const Fd errors, MakeFile(""));
  const Problem problem = {"def one():\n", "def check(candidate):\n    assert candidate() == 1\n", "one"};
  ASSIGN_OR_RETURN(const Result result,
                   Run(problem, "def one():\n    return 1\n", Limits{}, Clock::System(), errors.get()));
  if (result == Result::kPassed) return absl::OkStatus();
  std::array<char, 300> text{};
  const ssize_t n = pread(errors.get(), text.data(), text.size(), 0);
  std::string said(text.data(), n > 0 ? static_cast<size_t>(n) : 0);
  said.erase(std::min(said.find('\n'), said.size()));
  return FailedPrecondition(
      "grader \"code\" runs programs in bubblewrap only, and that does not work here ({}); user namespaces are needed",
      said.empty() ? "no message" : said);
}

}  // namespace

Result RunTests(const Problem& problem, const std::string& program, const Limits& limits, const Clock& clock) {
  const absl::StatusOr<Result> result = Run(problem, program, limits, clock, -1);
  return result.ok() ? *result : Result::kSandbox;
}

const absl::Status& SandboxWorks() {
  static const absl::Status* const kWorks = new absl::Status(Probe());
  return *kWorks;
}

}  // namespace conclave::grade::code
