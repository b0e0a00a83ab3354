// SPDX-License-Identifier: Apache-2.0
// What the serving programs have in common: how they are started, what they log, how they fail.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace CLI {
class App;
}

namespace conclave {

inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitBadInput = 65;
inline constexpr int kExitNoWorker = 69;

// "PROGRAM: message" on stderr, in one line; the lines of a longer message are set off by bars. Returns `exit_code`.
int FailProgram(std::string_view program, int exit_code, std::string message);

// Parses the arguments into what `app` was given, starts the log on stderr at `*log_level` and runs. The exit code is
// `run`'s; kExitUsage for arguments that do not parse, kExitFailed for an exception. `log_level` is read after parsing.
int RunProgram(CLI::App* app, int argc, char** argv, const std::string* log_level, const std::function<int()>& run);

}  // namespace conclave
