// SPDX-License-Identifier: Apache-2.0
// What an answer is before its parts are compared: both signs of +-, products of matrices, the value of "x = 5",
// the interval of "x > 2".
#pragma once

#include <cstdint>
#include <string>

#include "orchestrator/experiment/grade/math/evaluate.h"
#include "orchestrator/experiment/grade/math/expression.h"

namespace conclave::grade::math {

// The same answer with +- as two values, lists within lists flattened, matrices multiplied and added up; -1 beyond a
// limit. New nodes are added to the arena.
int32_t Simplify(Arena& arena, int32_t node);

// What a relation says its name is worth, or -1 where it says no such thing: 5 of "x = 5", "x = 2 + 3 = 5", "5 = x" and
// "x = 5 ~ 5.01"; the set of "x in [0, 1)".
int32_t ValueOf(const Arena& arena, Evaluator& evaluator, int32_t relation);

// The reals that satisfy "x > 2", "-x >= -1", "0 < f(x) < 1" or "1 <= |z| <= 3/2", as an interval or a union, or -1
// for other relations. `name` is what varies.
int32_t IntervalOf(Arena& arena, Evaluator& evaluator, int32_t relation, std::string* name);

// +1 or -1 for plus and minus infinity, 0 for all else.
int Infinity(const Arena& arena, int32_t node);

// The sign of a real constant; 0 also where it has none.
int SignOf(Evaluator& evaluator, int32_t node);

}  // namespace conclave::grade::math
