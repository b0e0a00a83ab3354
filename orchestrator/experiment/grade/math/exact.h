// SPDX-License-Identifier: Apache-2.0
// Operations on exact rationals that stay rational.
#pragma once

#include <gmpxx.h>

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "orchestrator/experiment/grade/math/expression.h"

namespace conclave::grade::math {

// Size of a number in bits.
size_t Bits(const mpq_class& value);

// The value of a node of that kind on exact arguments; nullopt where it is not rational, not defined or larger than
// kExactBitsMax. Not for numbers, symbols and what has a name of its own.
std::optional<mpq_class> ApplyExactly(Kind kind, const std::vector<const mpq_class*>& args);

}  // namespace conclave::grade::math
