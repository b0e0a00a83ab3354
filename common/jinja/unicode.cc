// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

namespace conclave::jinja {
namespace {

bool IsContinuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

utf8proc_category_t Category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

// Case mappings that grow: the ones that occur in running text.
bool AppendSpecialUpper(char32_t c, std::string* out) {
  switch (c) {
    case 0xDF:
      out->append("SS");
      return true;
    case 0x149:
      out->append("\xCA\xBCN");
      return true;
    case 0xFB00:
      out->append("FF");
      return true;
    case 0xFB01:
      out->append("FI");
      return true;
    case 0xFB02:
      out->append("FL");
      return true;
    default:
      return false;
  }
}

void AppendUpper(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c));
  } else if (!AppendSpecialUpper(c, out)) {
    AppendUtf8(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), out);
  }
}

void AppendLower(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
  } else if (c == 0x130) {
    out->append("i\xCC\x87");
  } else {
    AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
  }
}

void AppendTitle(char32_t c, std::string* out) {
  if (c < 0x80) {
    AppendUpper(c, out);
  } else if (c == 0xDF) {
    out->append("Ss");
  } else {
    AppendUtf8(static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))), out);
  }
}

// How many ASCII bytes follow at `at`: 0, 1 or a block of 8, whichever is quick to tell.
size_t AsciiRun(std::string_view text, size_t at) {
  uint64_t block = 0;
  if (text.size() - at >= sizeof(block)) {
    std::memcpy(&block, text.data() + at, sizeof(block));
    if ((block & 0x8080808080808080u) == 0) return sizeof(block);
  }
  return static_cast<unsigned char>(text[at]) < 0x80 ? 1 : 0;
}

template <typename F>
std::string MapCodePoints(std::string_view text, F&& append) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeAt(text, at);
    append(c.value, at, &out);
    at += c.bytes;
  }
  return out;
}

bool IsCased(char32_t c) { return IsLower(c) || IsUpper(c) || Category(c) == UTF8PROC_CATEGORY_LT; }

// Σ at the end of a word becomes ς.
bool IsFinalSigma(std::string_view text, size_t at) {
  bool before = false;
  for (size_t i = at; i > 0 && !before;) {
    const CodePoint c = DecodeBefore(text, i);
    i -= c.bytes;
    if (c.value == '\'' || Category(c.value) == UTF8PROC_CATEGORY_MN) continue;
    if (!IsCased(c.value)) return false;
    before = true;
  }
  for (size_t i = at + 2; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    i += c.bytes;
    if (c.value == '\'' || Category(c.value) == UTF8PROC_CATEGORY_MN) continue;
    return before && !IsCased(c.value);
  }
  return before;
}

void AppendLowerAt(std::string_view text, char32_t c, size_t at, std::string* out) {
  if (c == 0x3A3 && IsFinalSigma(text, at)) {
    AppendUtf8(0x3C2, out);
  } else {
    AppendLower(c, out);
  }
}

}  // namespace

CodePoint DecodeAt(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {lead, 1};
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  const CodePoint invalid{static_cast<char32_t>(0xDC00 + lead), 1};
  if (lead < 0xC2 || lead > 0xF4 || at + length > text.size()) return invalid;
  char32_t value = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if (!IsContinuation(text[at + i])) return invalid;
    value = (value << 6) | (static_cast<unsigned char>(text[at + i]) & 0x3Fu);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  if (overlong || value > 0x10FFFF) return invalid;
  return {value, length};
}

CodePoint DecodeBefore(std::string_view text, size_t at) {
  size_t begin = at - 1;
  while (begin > 0 && at - begin < 4 && IsContinuation(text[begin])) --begin;
  const CodePoint c = DecodeAt(text, begin);
  if (begin + c.bytes == at) return c;
  return {static_cast<char32_t>(0xDC00 + static_cast<unsigned char>(text[at - 1])), 1};
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c >= 0xDC80 && c <= 0xDCFF) {
    out->push_back(static_cast<char>(c - 0xDC00));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (c >> 6)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (c >> 12)));
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | (c >> 18)));
    out->push_back(static_cast<char>(0x80 | ((c >> 12) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

bool IsAscii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) >= 0x80; });
}

size_t CodePointCount(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t ascii = AsciiRun(text, at);
    count += ascii;
    at += ascii;
    if (ascii == 0) at += DecodeAt(text, at).bytes, ++count;
  }
  return count;
}

size_t ByteOffset(std::string_view text, size_t index) {
  size_t at = 0;
  while (index > 0 && at < text.size()) {
    const size_t ascii = std::min(AsciiRun(text, at), index);
    at += ascii;
    index -= ascii;
    if (ascii == 0) at += DecodeAt(text, at).bytes, --index;
  }
  return at;
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsLineBreak(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool IsAlpha(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}

bool IsDecimal(char32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : Category(c) == UTF8PROC_CATEGORY_ND; }

bool IsDigit(char32_t c) {
  return IsDecimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
         (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468);
}

bool IsNumeric(char32_t c) {
  if (IsDigit(c)) return true;
  if (c < 0x80) return false;
  const utf8proc_category_t category = Category(c);
  return category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}

bool IsLower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return Category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA;
}

bool IsUpper(char32_t c) { return c < 0x80 ? c >= 'A' && c <= 'Z' : Category(c) == UTF8PROC_CATEGORY_LU; }

bool IsPrintable(char32_t c) {
  if (c < 0x80) return c >= 0x20 && c < 0x7F;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

std::string ToUpper(std::string_view text) {
  return MapCodePoints(text, [](char32_t c, size_t, std::string* out) { AppendUpper(c, out); });
}

std::string ToLower(std::string_view text) {
  return MapCodePoints(text, [&](char32_t c, size_t at, std::string* out) { AppendLowerAt(text, c, at, out); });
}

std::string Capitalize(std::string_view text) {
  return MapCodePoints(text, [&](char32_t c, size_t at, std::string* out) {
    at == 0 ? AppendTitle(c, out) : AppendLowerAt(text, c, at, out);
  });
}

std::string TitleCase(std::string_view text) {
  bool inside = false;
  return MapCodePoints(text, [&](char32_t c, size_t at, std::string* out) {
    inside ? AppendLowerAt(text, c, at, out) : AppendTitle(c, out);
    inside = IsCased(c);
  });
}

std::string SwapCase(std::string_view text) {
  return MapCodePoints(text, [&](char32_t c, size_t at, std::string* out) {
    IsUpper(c) ? AppendLowerAt(text, c, at, out) : AppendUpper(c, out);
  });
}

bool IsIdentifier(std::string_view text) {
  if (text.empty()) return false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeAt(text, at);
    const utf8proc_category_t category = Category(c.value);
    const bool start = IsAlpha(c.value) || c.value == '_' || category == UTF8PROC_CATEGORY_NL;
    const bool inside = start || IsDecimal(c.value) || category == UTF8PROC_CATEGORY_MN ||
                        category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_PC;
    if (at == 0 ? !start : !inside) return false;
    at += c.bytes;
  }
  return true;
}

}  // namespace conclave::jinja
