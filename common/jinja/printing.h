// SPDX-License-Identifier: Apache-2.0
// Values as text: Python's str() and repr(), and JSON.
#pragma once

#include "absl/status/status.h"
#include "common/jinja/runtime.h"
#include "common/jinja/text.h"
#include "common/jinja/value.h"

namespace conclave::jinja {

// str(value), appended.
absl::Status AppendStr(Runtime& runtime, const Value& value, TextBuilder* out);
// repr(value), appended.
absl::Status AppendRepr(Runtime& runtime, const Value& value, TextBuilder* out);
absl::StatusOr<Text> Str(Runtime& runtime, const Value& value);
absl::StatusOr<Text> Repr(Runtime& runtime, const Value& value);
// str(value) as a value; strings pass through uncopied.
absl::StatusOr<Value> StrValue(Runtime& runtime, const Value& value);
// repr of a plain string, for messages.
std::string QuotedRepr(std::string_view text);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool pretty = false;
  std::string indent;  // when pretty
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
// json.dumps(value).
absl::Status AppendJson(Runtime& runtime, const Value& value, const JsonStyle& style, TextBuilder* out);

// &, <, >, ' and " as HTML entities.
Text EscapeHtml(const Text& text);

// Escaping a byte costs this many times what reading it costs.
inline constexpr size_t kEscapeCost = 4;

}  // namespace conclave::jinja
