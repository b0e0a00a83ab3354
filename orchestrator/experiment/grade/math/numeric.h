// SPDX-License-Identifier: Apache-2.0
// The operations of expressions on complex numbers of fixed precision.
#pragma once

#include <string_view>
#include <vector>

#include "orchestrator/experiment/grade/math/complex.h"
#include "orchestrator/experiment/grade/math/expression.h"

namespace conclave::grade::math {

// Where functions that are real only in part of the reals may go. In an expression with variables the roots and
// logarithms of negative numbers are undefined, so that ln(ab) = ln a + ln b; of a constant they have their principal
// value, sqrt(-4) = 2i. An odd root of a negative number is negative in both.
enum class Domain { kReal, kComplex };

// False where undefined or beyond Complex::kExponentMax. `exponent` of a kPower or degree of a kRoot is given as well
// exactly where it is known: it tells odd roots.
bool ApplyNumerically(const Node& node, const std::vector<const Complex*>& args, const mpq_class* exponent,
                      Domain domain, Complex& out);

void SetPi(Complex& out);
void SetE(Complex& out);
void SetI(Complex& out);

}  // namespace conclave::grade::math
