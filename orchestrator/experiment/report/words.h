// SPDX-License-Identifier: Apache-2.0
// A summary in plain words. A sentence claims a difference only where the 95 % interval excludes zero and the test
// agrees (after Holm's correction for contrasts that are not the primary one); everything else is said to be open.
#pragma once

#include <string>
#include <vector>

#include "orchestrator/experiment/report/html.h"

namespace conclave::report {

// Plain text, no HTML. The first sentence is about the primary contrast, or the only one.
std::vector<std::string> SummaryInWords(const Json& summary);

enum class Verdict { kSupported, kContradicted, kUndecided };

// One claim that a declared contrast is a test of.
struct Claim {
  std::string text;
  std::string test;  // what decides it
  Verdict verdict = Verdict::kUndecided;
  bool primary = false;
};

// Three per contrast: more accurate, not worse by more than the margin, equivalent within it.
std::vector<Claim> Claims(const Json& summary);
std::string_view VerdictName(Verdict verdict);

// The primary contrast, else the only one; null where there is neither.
Json PrimaryContrast(const Json& summary);
// The arm of that name; null where there is none.
Json ArmNamed(const Json& summary, const std::string& name);

}  // namespace conclave::report
