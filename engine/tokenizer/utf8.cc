// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/utf8.h"

namespace conclave::engine {
namespace {

bool IsWhiteSpace(char32_t c) {
  return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
         c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

}  // namespace

Utf8Char DecodeUtf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {first, 1, true, false};
  // The second byte's range depends on the first: no overlong forms, surrogates or values above U+10FFFF.
  uint8_t low = 0x80, high = 0xBF;
  uint8_t length = 0;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return {kReplacementCharacter, 1, false, false};
  }
  char32_t code_point = first & (0xFF >> (length + 1));
  for (uint8_t i = 1; i < length; ++i) {
    if (i >= text.size()) return {kReplacementCharacter, i, false, true};
    if (byte(i) < low || byte(i) > high) return {kReplacementCharacter, i, false, false};
    code_point = code_point << 6 | (byte(i) & 0x3F);
    low = 0x80, high = 0xBF;
  }
  return {code_point, length, true, false};
}

size_t LeadingWhiteSpace(std::string_view text) {
  size_t bytes = 0;
  while (bytes < text.size()) {
    const Utf8Char c = DecodeUtf8(text.substr(bytes));
    if (!c.valid || !IsWhiteSpace(c.code_point)) break;
    bytes += c.bytes;
  }
  return bytes;
}

size_t TrailingWhiteSpace(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;  // of the last character: bytes of the form 10xxxxxx follow its first
    while (begin > 0 && end - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
    const Utf8Char c = DecodeUtf8(text.substr(begin, end - begin));
    if (!c.valid || begin + c.bytes != end || !IsWhiteSpace(c.code_point)) break;
    end = begin;
  }
  return text.size() - end;
}

void AppendUtf8(char32_t c, std::string* out) {
  const auto put = [&](char32_t bits) { out->push_back(static_cast<char>(static_cast<uint8_t>(bits))); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

void Utf8Stream::Append(std::string_view bytes, std::string* out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = std::move(pending_);
    joined += bytes;
    bytes = joined;
    pending_.clear();
  }
  while (!bytes.empty()) {
    const Utf8Char c = DecodeUtf8(bytes);
    if (c.truncated) {
      pending_ = bytes;
      return;
    }
    if (c.valid) {
      out->append(bytes.substr(0, c.bytes));
    } else {
      AppendUtf8(kReplacementCharacter, out);
    }
    bytes.remove_prefix(c.bytes);
  }
}

void Utf8Stream::Finish(std::string* out) {
  if (!pending_.empty()) AppendUtf8(kReplacementCharacter, out);
  pending_.clear();
}

}  // namespace conclave::engine
