// SPDX-License-Identifier: Apache-2.0
// JSON of files that anybody may have written: nesting is bounded before it is parsed, because copying and printing a
// parsed document recurse over it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

namespace conclave::experiment {

inline constexpr size_t kJsonDepthMax = 64;

// How deep lists and objects nest, brackets inside strings aside; of text that is no JSON any number.
inline size_t JsonDepth(std::string_view text) {
  size_t depth = 0, most = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      most = std::max(most, ++depth);
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return most;
}

// The document, or a discarded value where the text is no JSON or nests deeper than kJsonDepthMax.
inline nlohmann::ordered_json ParseJson(std::string_view text) {
  using Json = nlohmann::ordered_json;
  if (JsonDepth(text) > kJsonDepthMax) return Json(Json::value_t::discarded);
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace conclave::experiment
