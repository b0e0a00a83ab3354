// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/characters.h"

#include "engine/tokenizer/utf8.h"

namespace conclave::engine::grammar {

CodePointSet AsciiDigits() { return {{'0', '9'}}; }
CodePointSet AsciiWordCharacters() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
CodePointSet AsciiSpaces() { return {{'\t', '\r'}, {' ', ' '}}; }

absl::StatusOr<char32_t> Cursor::Character() {
  if (done()) return Error(at_, "a character is expected, but the text ends");
  const Utf8Char c = DecodeUtf8(text_.substr(at_));
  if (!c.valid) return Error(at_, "this is not UTF-8");
  at_ += c.bytes;
  return c.code_point;
}

absl::StatusOr<char32_t> Cursor::Hex(int digits_min, int digits_max) {
  const size_t begin = at_;
  char32_t value = 0;
  int digits = 0;
  for (; digits < digits_max; ++digits, ++at_) {
    const char c = peek();
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) break;
    value = value * 16 + static_cast<char32_t>(digit);
  }
  if (digits < digits_min) return Error(begin, "{} hexadecimal digits expected", digits_min);
  if (value > kCodePointMax || (value >= 0xD800 && value <= 0xDFFF)) {
    return Error(begin, "U+{:X} is no character", static_cast<uint32_t>(value));
  }
  return value;
}

absl::StatusOr<CodePointSet> Cursor::Escape() {
  const size_t begin = at_ - 1;
  ASSIGN_OR_RETURN(char32_t c, Character());
  switch (c) {
    case 'd':
      return AsciiDigits();
    case 'D':
      return AsciiDigits().Complement();
    case 'w':
      return AsciiWordCharacters();
    case 'W':
      return AsciiWordCharacters().Complement();
    case 's':
      return AsciiSpaces();
    case 'S':
      return AsciiSpaces().Complement();
    case 'n':
      c = '\n';
      break;
    case 't':
      c = '\t';
      break;
    case 'r':
      c = '\r';
      break;
    case 'f':
      c = '\f';
      break;
    case 'v':
      c = '\v';
      break;
    case 'x': {
      ASSIGN_OR_RETURN(c, Hex(2, 2));
      break;
    }
    case 'u': {
      const bool braces = Take("{");
      ASSIGN_OR_RETURN(c, Hex(braces ? 1 : 4, braces ? 6 : 4));
      if (braces && !Take("}")) return Error(at_, "\"}}\" expected");
      break;
    }
    case 'U': {
      ASSIGN_OR_RETURN(c, Hex(8, 8));
      break;
    }
    default:
      if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) {
        return Error(begin,
                     "\"\\{}\" is not supported; known: \\d \\w \\s \\D \\W \\S \\n \\t \\r \\f \\v \\xHH \\uHHHH",
                     static_cast<char>(c));
      }
  }
  return CodePointSet{{c, c}};
}

absl::StatusOr<CodePointSet> Cursor::Class() {
  const size_t begin = at_ - 1;
  const bool inverted = Take("^");
  CodePointSet set;
  for (bool first = true;; first = false) {
    if (done()) return Error(begin, "this \"[\" has no \"]\"");
    const size_t item = at_;
    if (!first && Take("]")) break;
    if (StartsWith("[:") || StartsWith("[.") || StartsWith("[=") || StartsWith("&&")) {
      return Error(item, "\"{}\" in brackets is not supported", text_.substr(item, 2));
    }
    const auto one = [&]() -> absl::StatusOr<CodePointSet> {
      if (Take("\\")) return Escape();
      ASSIGN_OR_RETURN(const char32_t c, Character());
      return CodePointSet{{c, c}};
    };
    ASSIGN_OR_RETURN(CodePointSet from, one());
    if (peek() != '-' || peek(1) == ']' || peek(1) == '\0') {
      set.Add(from);
      continue;
    }
    Skip(1);
    ASSIGN_OR_RETURN(const CodePointSet to, one());
    const auto single = [](const CodePointSet& s) {
      return s.ranges().size() == 1 && s.ranges()[0].first == s.ranges()[0].last;
    };
    if (!single(from) || !single(to)) return Error(item, "a range wants single characters at both ends");
    const char32_t low = from.ranges()[0].first, high = to.ranges()[0].first;
    if (low > high) return Error(item, "this range ends before it begins");
    set.Add(low, high);
  }
  return inverted ? set.Complement() : set;
}

absl::StatusOr<int32_t> Cursor::Number() {
  const size_t begin = at_;
  int32_t value = 0;
  for (; peek() >= '0' && peek() <= '9'; ++at_) {
    value = value * 10 + (peek() - '0');
    if (value > kRepeatMax) return Error(begin, "this count is over {}", kRepeatMax);
  }
  if (at_ == begin) return Error(begin, "a count is expected, as in {{2,5}}; a brace of the text itself is \\{{");
  return value;
}

absl::StatusOr<Cursor::Count> Cursor::Quantifier() {
  if (Take("*")) return Count{0, -1};
  if (Take("+")) return Count{1, -1};
  if (Take("?")) return Count{0, 1};
  const size_t begin = at_;
  if (!Take("{")) return Count{1, 1};
  Count count = {};
  ASSIGN_OR_RETURN(count.min, Number());
  count.max = count.min;
  if (Take(",")) {
    count.max = -1;
    if (peek() != '}') {
      ASSIGN_OR_RETURN(count.max, Number());
    }
  }
  if (!Take("}")) return Error(at_, "\"}}\" expected");
  if (count.max >= 0 && count.max < count.min) return Error(begin, "this count ends before it begins");
  return count;
}

}  // namespace conclave::engine::grammar
