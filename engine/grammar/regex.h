// SPDX-License-Identifier: Apache-2.0
// Regular expressions: the part that describes sets of texts. Characters, escapes (characters.h), "." (all but a
// newline), classes, groups (named ones too), alternatives, counts (lazy ones are the same set). Look-around,
// references and other assertions than ^ and $ at the ends of an alternative are errors.
#pragma once

#include <memory>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/grammar/automaton.h"

namespace conclave::engine::grammar {

// Texts that match as a whole. INVALID_ARGUMENT "at byte N: ..".
absl::StatusOr<std::shared_ptr<const Automaton>> CompileRegex(std::string_view source);

// The same as a part of another automaton, whose characters `characters` writes. With `search` a text need only contain
// a match, except where ^ and $ say otherwise.
using CharacterWriter = absl::FunctionRef<AutomatonBuilder::Part(const CodePointSet&)>;
absl::StatusOr<AutomatonBuilder::Part> ParseRegex(std::string_view source, bool search, CharacterWriter characters,
                                                  AutomatonBuilder* builder);

}  // namespace conclave::engine::grammar
