// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/escapes.h"

#include <fmt/format.h>

#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

// Up to three octal digits at `*at`, which is left on the last of them.
char32_t ReadOctal(std::string_view text, size_t* at) {
  char32_t value = 0;
  size_t end = *at;
  for (; end < text.size() && end < *at + 3 && text[end] >= '0' && text[end] <= '7'; ++end) {
    value = value * 8 + static_cast<char32_t>(text[end] - '0');
  }
  *at = end - 1;
  return value;
}

}  // namespace

std::string DecodeEscapes(std::string_view literal, std::string* out) {
  static constexpr std::string_view kFrom = "\\'\"abfnrtv";
  static constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 >= literal.size()) {
      out->push_back(literal[i]);
      continue;
    }
    const char c = literal[++i];
    if (const size_t known = kFrom.find(c); known != std::string_view::npos) {
      out->push_back(kTo[known]);
    } else if (c >= '0' && c <= '7') {
      AppendUtf8(ReadOctal(literal, &i), out);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      const std::string_view hex = literal.substr(i + 1, digits);
      if (hex.size() != digits || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) {
        return fmt::format("truncated \\{}{} escape", c, std::string(digits, 'X'));
      }
      const unsigned long value = std::stoul(std::string(hex), nullptr, 16);
      if (value > 0x10FFFF) return "illegal Unicode character";
      AppendUtf8(static_cast<char32_t>(value), out);
      i += digits;
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      // Python escapes what is not ASCII before it decodes, and so finds a backslash before a backslash here.
      const CodePoint letter = DecodeAt(literal, i);
      const auto value = static_cast<uint32_t>(letter.value);
      *out += value < 0x100     ? fmt::format("\\x{:02x}", value)
              : value < 0x10000 ? fmt::format("\\u{:04x}", value)
                                : fmt::format("\\U{:08x}", value);
      i += letter.bytes - 1;
    } else if (c != '\n') {  // a backslash before a newline joins the lines
      out->push_back('\\');
      out->push_back(c);
    }
  }
  return "";
}

}  // namespace conclave::jinja
