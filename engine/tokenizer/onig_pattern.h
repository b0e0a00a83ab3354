// SPDX-License-Identifier: Apache-2.0
// The regular expressions of tokenizer.json, which are Oniguruma's (Ruby syntax), as PCRE2 patterns of the same
// meaning.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace conclave::engine {

// Unicode White_Space, the inside of a class: what \s means to tokenizers. PCRE2's own \s has U+180E too, which left
// that property in Unicode 6.3.
#define CONCLAVE_WHITE_SPACE \
  "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

// For PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE. INVALID_ARGUMENT names a construct that the two dialects read
// differently and that is not translated (nested classes, \h, back references, ..).
absl::StatusOr<std::string> TranslateOnigPattern(std::string_view pattern);

// A pattern that matches `text` itself.
std::string LiteralPattern(std::string_view text);

}  // namespace conclave::engine
