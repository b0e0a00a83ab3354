// SPDX-License-Identifier: Apache-2.0
// The grammar of answers, over tokens:
//   answer   := relation ((',' | ';' | and | or) relation)*
//   relation := ratio (('=' | '<' | '>' | '<=' | '>=' | 'in' | ..) ratio)*
//   ratio    := union (':' union)?
//   union    := sum (('U' | 'I' | '\') sum)*
//   sum      := ['-' | '+-'] term (('+' | '-' | '+-' | '-+') term)*
//   term     := power (['*' | '/'] power)* unit?
//   power    := atom ('!' | "'" | '%' | degree | '_' index | '^' power)*
//   atom     := number | name | function argument* | ( .. ) | [ .. ) | { .. } | \{ .. \} | | .. | | matrix | words
// Descent is at most kNestingMax deep.
#pragma once

#include <cstdint>
#include <string_view>

#include "orchestrator/experiment/grade/math/expression.h"
#include "orchestrator/experiment/grade/math/token.h"

namespace conclave::grade::math {

// The root of what the whole text says, or -1 when it is no answer of this grammar or beyond a limit.
int32_t Parse(Arena& arena, std::string_view text, Commas commas);

// Whether a node can stand on the left of "= value" as the name of the value: x, f(2), |AB|, NO/BO, (p, q).
bool IsName(const Arena& arena, int32_t node);

}  // namespace conclave::grade::math
