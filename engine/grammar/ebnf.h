// SPDX-License-Identifier: Apache-2.0
// Grammars in the notation that llama.cpp made common (GBNF):
//
//   # a comment
//   root   ::= "VERDICT: " ("accept" | "reject") reason?
//   reason ::= "\n" [^\n]{1,200}
//
// Rules are names of letters, digits, "-" and "_"; "root" is the text. Right sides are alternatives of sequences of
// literals in quotes, classes in brackets, "." (any character), names and groups, each perhaps with *, +, ? or {m,n};
// escapes as in characters.h. A rule may call itself anywhere but at its beginning.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/grammar/automaton.h"

namespace conclave::engine::grammar {

// INVALID_ARGUMENT "at byte N: ..", or naming the rule.
absl::StatusOr<std::shared_ptr<const Automaton>> CompileEbnf(std::string_view source);

}  // namespace conclave::engine::grammar
