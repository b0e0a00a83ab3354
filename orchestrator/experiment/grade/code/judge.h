// SPDX-License-Identifier: Apache-2.0
// Whether a Python program passes the tests of its problem, found out in two sandboxes.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/clock.h"
#include "orchestrator/experiment/grade/code/sandbox.h"

namespace conclave::grade::code {

struct Problem {
  std::string prompt;       // what the model was to continue; run before the tests, which may use its helpers
  std::string test;         // defines check(candidate), or is plain assertions where there is no entry point
  std::string entry_point;  // the function under test; empty: the tests call functions by name
};

enum class Result {
  kPassed,
  kFailed,   // an assertion did not hold, or an answer was of no built-in type
  kRaised,   // the program raised, also where it did not compile
  kExited,   // it ended before the tests did
  kTimeout,  // CPU seconds or wall seconds
  kMemory,
  kSandbox,  // the sandbox itself failed: says nothing about the program
};

// Thread-safe; takes as long as the program and the limits say.
Result RunTests(const Problem& problem, const std::string& program, const Limits& limits = {},
                const Clock& clock = Clock::System());

// OK where sandboxes work on this machine: bubblewrap and Python are there, and namespaces may be made. Else
// FAILED_PRECONDITION with what bwrap said. Found out once, by running a program that must pass.
const absl::Status& SandboxWorks();

}  // namespace conclave::grade::code
