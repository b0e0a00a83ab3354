// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>

#include "common/status.h"

namespace conclave::cli {

namespace {

constexpr char kUsagePayload[] = "conclave.dev/usage";

}  // namespace

absl::Status UsageError(std::string_view message) {
  absl::Status status = InvalidArgument("{}", message);
  status.SetPayload(kUsagePayload, absl::Cord("1"));
  return status;
}

ExitCode ExitCodeFor(const absl::Status& status) {
  if (status.GetPayload(kUsagePayload).has_value()) return kUsage;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return kBadInput;
    case absl::StatusCode::kUnavailable:
      return kNoWorker;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
      return kExhausted;
    default:
      return kFailed;
  }
}

int Report(const absl::Status& status) {
  if (status.ok()) return kOk;
  // Usually one line; files with several mistakes name them all, a line each.
  std::fprintf(stderr, "conclave: %s\n", std::string(Message(status)).c_str());
  return ExitCodeFor(status);
}

bool Output::colour() const {
  return !plain && !json && isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
}

bool Output::live() const {
  const char* term = std::getenv("TERM");
  return colour() && term != nullptr && std::string_view(term) != "dumb";
}

void AddOutputFlags(CLI::App* command, Output* output) {
  command->add_flag("--json", output->json, "Print the result as one JSON document");
  command->add_flag("--plain", output->plain, "No colours, no redrawing");
}

absl::StatusOr<std::string> ReadStdin(int64_t bytes_max) {
  std::string text;
  char buffer[1 << 16];
  for (size_t n; (n = std::fread(buffer, 1, sizeof(buffer), stdin)) > 0;) {
    text.append(buffer, n);
    if (static_cast<int64_t>(text.size()) > bytes_max) {
      return InvalidArgument("standard input: more than the limit of {} bytes", bytes_max);
    }
  }
  return text;
}

std::string EnvironmentVariable(const std::string& name) {
  const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? "" : value;
}

std::string Quoted(const std::string& word) {
  constexpr std::string_view kPlain = "_@%+=:,./-";
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [=](unsigned char c) {
    return (c < 0x80 && std::isalnum(c) != 0) || kPlain.find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace conclave::cli
