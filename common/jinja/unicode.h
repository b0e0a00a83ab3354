// SPDX-License-Identifier: Apache-2.0
// UTF-8 as Python strings see it: positions count code points. Bytes that are not UTF-8 count one each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::jinja {

struct CodePoint {
  char32_t value = 0;  // an invalid byte b is 0xDC00 + b, as Python's surrogateescape has it
  size_t bytes = 1;
};

// REQUIRES at < text.size().
CodePoint DecodeAt(std::string_view text, size_t at);
// The code point that ends before byte `at`. REQUIRES at > 0.
CodePoint DecodeBefore(std::string_view text, size_t at);
void AppendUtf8(char32_t code_point, std::string* out);

size_t CodePointCount(std::string_view text);
// The byte at which code point `index` starts; text.size() when there are not so many.
size_t ByteOffset(std::string_view text, size_t index);
bool IsAscii(std::string_view text);

// Python's str predicates for one code point.
bool IsSpace(char32_t c);
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsLower(char32_t c);
bool IsUpper(char32_t c);
bool IsPrintable(char32_t c);
bool IsLineBreak(char32_t c);  // as str.splitlines
inline bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }
inline bool IsWord(char32_t c) { return IsAlnum(c) || c == '_'; }  // \w

std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
std::string Capitalize(std::string_view text);
std::string TitleCase(std::string_view text);  // str.title
std::string SwapCase(std::string_view text);

// str.isidentifier.
bool IsIdentifier(std::string_view text);

}  // namespace conclave::jinja
