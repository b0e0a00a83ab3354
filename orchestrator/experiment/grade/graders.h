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

}  // namespace conclave::grade
