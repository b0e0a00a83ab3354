// SPDX-License-Identifier: Apache-2.0
// Problems to train on, each named by an id from which it can be made again, and what is to be said of drafts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/benchmark/split.h"
#include "orchestrator/experiment/benchmark/steps/families.h"

namespace conclave::zoo {

// Which problem. As text "family/difficulty/seed/stream".
struct ProblemId {
  const benchmark::Family* family = nullptr;
  int difficulty = 1;
  uint64_t seed = 0;
  uint64_t stream = 0;

  std::string ToString() const;
  // INVALID_ARGUMENT for any other text and for an unknown family.
  static absl::StatusOr<ProblemId> Parse(std::string_view text);
};

// A problem and its one right solution.
struct Case {
  ProblemId id;
  benchmark::Problem problem;
  benchmark::Worked right;
  std::string solution;  // SolutionText(right)
  std::string answer;
};
Case MakeCase(const ProblemId& id);

// A solution somebody wrote, compared with the right one line by line.
struct Draft {
  std::string text;
  bool right = true;       // its final answer is
  int64_t wrong_step = 0;  // the first line that differs, from 1; the answer's line counts as the last; 0: none
};
Draft Compare(const Case& c, std::string text);
// A draft that is right, or wrong by one slip.
Draft MakeDraft(const Case& c, bool right, benchmark::Dice& dice);

// "1. what to do" lines.
std::string PlanText(const Case& c);
// What of a step a check writes out before it says whether the step is right.
enum class Checks {
  kResults,  // its result: "2: 126 wrong"
  kSteps,    // the whole step as it should be: "2: 42 * 3 = 126 wrong". Who can solve can check so
};

// "Draft 1: step 2 should be 42 * 3 = 126." or "Draft 1: no mistake.", one line for each draft; with kSteps after the
// checks of all drafts, step by step: "2: 42 * 3 = 126 wrong ok -", "-" where a step before was wrong.
std::string CritiqueText(const Case& c, const std::vector<Draft>& drafts, Checks checks);
// A critique of one draft that is mistaken: praises a wrong draft, or finds a mistake in a right step.
std::string FalseCritique(const Case& c, const Draft& draft, Checks checks, benchmark::Dice& dice);
// The check of every step up to the first wrong one, "1: 42 ok", "2: 126 wrong", then the verdict. The draft's answer
// is right exactly if no line of it differs (REQUIRES).
std::string VerificationText(const Case& c, const Draft& draft, Checks checks);

}  // namespace conclave::zoo
