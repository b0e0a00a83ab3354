// SPDX-License-Identifier: Apache-2.0
// The commands and words the tokenizer knows.
#pragma once

#include <optional>
#include <string_view>

namespace conclave::grade::math {

enum class Action : uint8_t {
  kSkip,          // changes how it looks, not what it says: \left, \displaystyle, \boxed
  kSkipArgument,  // with the group behind it: \pmod{11}, \hspace{1em}
  kText,          // \text{..}, \mathrm{..}
  kSymbol,
  kFunction,
  kSign,
  kBegin,
  kEnd,
};

struct Meaning {
  Action action;
  std::string_view text;  // symbol, function; or one sign
};

// Of a LaTeX command without its backslash.
std::optional<Meaning> CommandMeaning(std::string_view name);
// Of a word in plain text: functions, constants, "and", "percent".
std::optional<Meaning> WordMeaning(std::string_view word);
// Of a sign outside ASCII that `text` begins with; `bytes` is its length. An empty sign is white space.
std::optional<Meaning> UnicodeMeaning(std::string_view text, size_t* bytes);

// The common name of a unit ("meters" -> "m"), or nullopt for a word that is no known unit.
std::optional<std::string_view> UnitName(std::string_view word);

}  // namespace conclave::grade::math
