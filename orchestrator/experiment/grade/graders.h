// SPDX-License-Identifier: Apache-2.0
// The graders of this folder; everybody else asks MakeGrader.
#pragma once

#include <memory>

#include "orchestrator/experiment/grade/grader.h"

namespace conclave::grade {

// One option letter: "(B)", "Answer: B", \boxed{B}, or the text of exactly one option.
std::unique_ptr<const Grader> MakeChoiceGrader();
// A final answer as text: after "Answer:", in \boxed{}, in an "answer" field, or the whole response.
std::unique_ptr<const Grader> MakeExactGrader();
// One number, compared as an exact rational.
std::unique_ptr<const Grader> MakeGsm8kGrader();
// A mathematical answer of any kind, compared by what it says (math/equivalence.h).
std::unique_ptr<const Grader> MakeMathGrader();
// An option, truth value, number, brackets or words.
std::unique_ptr<const Grader> MakeBbhGrader();
// An expression worth 24; the gold is the puzzle's numbers.
std::unique_ptr<const Grader> MakeGame24Grader();
// Who is a knight and who a knave, for everybody.
std::unique_ptr<const Grader> MakeKnightsKnavesGrader();
// A Python program that passes tests; only where code::SandboxWorks.
std::unique_ptr<const Grader> MakeCodeGrader();

}  // namespace conclave::grade
