// SPDX-License-Identifier: Apache-2.0
// The families of problems with written-out steps; callers outside use steps/problem.h and Families().
#pragma once

#include <span>
#include <string_view>

#include "orchestrator/experiment/benchmark/steps/problem.h"

namespace conclave::benchmark {

struct Family {
  std::string_view name;
  // Difficulty 1 to kDifficultyMax (generator.h).
  Problem (*make)(Dice& dice, int difficulty);
};

// In alphabetical order.
std::span<const Family> Families();
const Family* FindFamily(std::string_view name);  // null when there is none

// ---- Long arithmetic, digit by digit (columns.cc).
Problem MakeAddition(Dice& dice, int difficulty);     // two or three numbers of up to 8 digits
Problem MakeMultiply(Dice& dice, int difficulty);     // up to 5 digits by up to 3
Problem MakeSubtraction(Dice& dice, int difficulty);  // numbers of `difficulty` + 1 digits

// ---- Chains of operations (chains.cc).
Problem MakeChain(Dice& dice, int difficulty);    // `difficulty` + 1 operations
Problem MakeModular(Dice& dice, int difficulty);  // the same modulo 7 to 97
Problem MakeProgram(Dice& dice, int difficulty);  // a loop over two or three registers

// ---- Numbers and equations (numbers.cc).
Problem MakeBase(Dice& dice, int difficulty);      // to and from bases 2 to 9
Problem MakeDates(Dice& dice, int difficulty);     // days between two dates
Problem MakeEquation(Dice& dice, int difficulty);  // one unknown, brackets, two unknowns
Problem MakeMultiple(Dice& dice, int difficulty);  // least common multiple, by Euclid's algorithm

// ---- Lists and texts (lists.cc).
Problem MakeBrackets(Dice& dice, int difficulty);  // where a row of brackets goes wrong
Problem MakeCounting(Dice& dice, int difficulty);  // letters counted, with weights
Problem MakeLists(Dice& dice, int difficulty);     // `difficulty` edits of a list
Problem MakeMaximum(Dice& dice, int difficulty);   // largest sum of neighbours (Kadane)
Problem MakeSorting(Dice& dice, int difficulty);   // the k-th smallest

// ---- Logic, sets (logic.cc) and graphs (graph.cc).
Problem MakeBoolean(Dice& dice, int difficulty);  // bitwise and, or, xor, not
Problem MakeGraph(Dice& dice, int difficulty);    // shortest way (Dijkstra)
Problem MakeLiars(Dice& dice, int difficulty);    // honest people and liars with coins
Problem MakeSets(Dice& dice, int difficulty);     // sum over unions, intersections, differences

}  // namespace conclave::benchmark
