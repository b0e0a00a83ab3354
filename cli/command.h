// SPDX-License-Identifier: Apache-2.0
// What every subcommand shares: exit codes, error lines, the terminal, and how it is registered.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::cli {

// sysexits-like; fixed, because scripts rely on them.
enum ExitCode : int {
  kOk = 0,
  kFailed = 1,      // the run failed
  kUsage = 2,       // wrong arguments
  kBadInput = 65,   // a file, graph, template or prompt is wrong
  kNoWorker = 69,   // nobody reachable to answer
  kExhausted = 75,  // out of budget or time
};

// INVALID_ARGUMENT for arguments that are wrong whatever any file says: exits with kUsage.
absl::Status UsageError(std::string_view message);

// The exit code that a status stands for: INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, DATA_LOSS, OUT_OF_RANGE and
// UNIMPLEMENTED are bad input; UNAVAILABLE nobody reachable; RESOURCE_EXHAUSTED and DEADLINE_EXCEEDED exhausted.
ExitCode ExitCodeFor(const absl::Status& status);

// Prints "conclave: message" on stderr (nothing when OK): one line, or one per mistake of a file. Returns the exit
// code.
int Report(const absl::Status& status);

// How a result may be printed.
struct Output {
  bool json = false;    // one JSON document on stdout
  bool plain = false;   // no colours, no redrawing
  bool colour() const;  // stdout is a terminal, NO_COLOR is unset, not plain, not json
  bool live() const;    // as colour(), and redrawing is welcome
};

// Adds --json and --plain.
void AddOutputFlags(CLI::App* command, Output* output);

// Registers the action of a parsed subcommand; main() runs the one chosen and exits with its value.
using Action = std::function<int()>;
struct Chosen {
  Action action;
};

// One per file. Each adds itself to `app` and sets chosen->action when its subcommand is parsed.
void AddInspect(CLI::App* app, Chosen* chosen);
void AddGenerate(CLI::App* app, Chosen* chosen);
void AddBench(CLI::App* app, Chosen* chosen);
void AddGraph(CLI::App* app, Chosen* chosen);
void AddModels(CLI::App* app, Chosen* chosen);
void AddUp(CLI::App* app, Chosen* chosen);
void AddAsk(CLI::App* app, Chosen* chosen);
void AddReplay(CLI::App* app, Chosen* chosen);
void AddFork(CLI::App* app, Chosen* chosen);
void AddRun(CLI::App* app, Chosen* chosen);
void AddExperiment(CLI::App* app, Chosen* chosen);
void AddReport(CLI::App* app, Chosen* chosen);
void AddItems(CLI::App* app, Chosen* chosen);
void AddCompare(CLI::App* app, Chosen* chosen);
void AddRoofline(CLI::App* app, Chosen* chosen);
void AddMerge(CLI::App* app, Chosen* chosen);
void AddRegrade(CLI::App* app, Chosen* chosen);
void AddImport(CLI::App* app, Chosen* chosen);

// Reads all of standard input, at most bytes_max; RESOURCE_EXHAUSTED beyond.
absl::StatusOr<std::string> ReadStdin(int64_t bytes_max = int64_t{64} << 20);

// As one word of a shell's command line.
std::string Quoted(const std::string& word);

// Its value, or "" where it is not set.
std::string EnvironmentVariable(const std::string& name);

}  // namespace conclave::cli
