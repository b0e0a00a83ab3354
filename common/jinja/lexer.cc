// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/lexer.h"

#include <algorithm>
#include <optional>

#include "common/jinja/error.h"
#include "common/jinja/escapes.h"
#include "common/jinja/numbers.h"
#include "common/jinja/printing.h"
#include "common/jinja/unicode.h"

namespace conclave::jinja {
namespace {

// \r\n and \r become \n; one newline at the end goes.
std::string NormalizeNewlines(std::string_view source, bool keep_trailing_newline) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (!keep_trailing_newline && out.ends_with('\n')) out.pop_back();
  return out;
}

bool IsDigitByte(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  Lexer(std::string source, const WhitespaceRules& rules) : source_(std::move(source)), rules_(rules) {}

  TokenList Run(LexerMode mode) {
    if (mode == LexerMode::kExpression) {
      LexInside(/*block=*/false, /*to_end=*/true);
    } else {
      while (status_.ok() && at_ < source_.size()) LexText();
    }
    if (status_.ok()) Push(TokenKind::kEnd, "", at_);
    return {std::move(tokens_), std::move(status_)};
  }

 private:
  Position PositionOf(size_t at) {
    // Positions are asked for in ascending order.
    while (counted_ < at) {
      if (source_[counted_] == '\n') {
        ++position_.line;
        position_.column = 1;
        ++counted_;
      } else {
        counted_ += DecodeAt(source_, counted_).bytes;
        ++position_.column;
      }
    }
    return position_;
  }

  Token& Push(TokenKind kind, std::string text, size_t at) {
    Token token;
    token.kind = kind;
    token.at = PositionOf(at);
    token.text = std::move(text);
    tokens_.push_back(std::move(token));
    return tokens_.back();
  }

  void Fail(size_t at, std::string_view message) {
    const Token& token = Push(TokenKind::kError, "", at);
    status_ = AtPosition(RaiseMessage(ErrorType::kTemplateSyntaxError, message), token.at.line, token.at.column);
  }

  size_t SkipSpace(size_t at) const {
    while (at < source_.size()) {
      const CodePoint c = DecodeAt(source_, at);
      if (!IsSpace(c.value)) break;
      at += c.bytes;
    }
    return at;
  }

  bool Follows(size_t at, std::string_view text) const { return source_.compare(at, text.size(), text) == 0; }

  // The end of "{%- raw -%}" when it starts at `at`, else nothing.
  std::optional<size_t> RawBegin(size_t at) const {
    size_t p = at + 2;
    if (p < source_.size() && (source_[p] == '-' || source_[p] == '+')) ++p;
    p = SkipSpace(p);
    if (!Follows(p, "raw")) return std::nullopt;
    p = SkipSpace(p + 3);
    if (Follows(p, "-%}")) return SkipSpace(p + 3);
    if (Follows(p, "%}")) return p + 2;
    return std::nullopt;
  }

  // The end of the tag's closing "%}" at `at` ("+%}", "-%}" and trimming included), else nothing.
  std::optional<size_t> BlockEnd(size_t at) const {
    if (Follows(at, "+%}")) return at + 3;
    if (Follows(at, "-%}")) return SkipSpace(at + 3);
    if (!Follows(at, "%}")) return std::nullopt;
    const bool newline = rules_.trim_blocks && at + 2 < source_.size() && source_[at + 2] == '\n';
    return at + 2 + (newline ? 1 : 0);
  }

  // Emits source_[begin, end) as data, stripped as the tag's sign says. `strippable`: the tag is no variable.
  void PushData(size_t begin, size_t end, char sign, bool strippable) {
    std::string_view text(source_.data() + begin, end - begin);
    if (sign == '-') {
      while (!text.empty()) {
        const CodePoint c = DecodeBefore(text, text.size());
        if (!IsSpace(c.value)) break;
        text.remove_suffix(c.bytes);
      }
    } else if (sign != '+' && strippable && rules_.lstrip_blocks) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
      const bool whole_line = newline != std::string_view::npos || line_starting_;
      if (whole_line && SkipSpace(begin + line) >= end) text = text.substr(0, line);
    }
    if (!text.empty()) Push(TokenKind::kData, std::string(text), begin);
  }

  void Advance(size_t to) {
    line_starting_ = to > at_ ? source_[to - 1] == '\n' : line_starting_;
    at_ = to;
  }

  // Text up to the next tag, and the tag.
  void LexText() {
    size_t tag = at_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        Push(TokenKind::kData, source_.substr(at_), at_);
        at_ = source_.size();
        return;
      }
      const char kind = source_[tag + 1];
      if (kind == '%' || kind == '{' || kind == '#') break;
      ++tag;
    }
    const char kind = source_[tag + 1];
    const char next = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const char sign = next == '-' || next == '+' ? next : '\0';
    PushData(at_, tag, sign, kind != '{');
    if (kind == '%') {
      if (const auto end = RawBegin(tag)) {
        Advance(*end);
        return LexRaw(tag);
      }
    }
    Advance(tag + 2 + (sign != '\0' ? 1 : 0));
    if (kind == '#') return LexComment(tag);
    Push(kind == '%' ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, "", tag);
    LexInside(kind == '%', /*to_end=*/false);
  }

  void LexRaw(size_t tag) {
    for (size_t p = source_.find("{%", at_); p != std::string::npos; p = source_.find("{%", p + 1)) {
      size_t word = p + 2;
      const char next = word < source_.size() ? source_[word] : '\0';
      const char sign = next == '-' || next == '+' ? next : '\0';
      word = SkipSpace(word + (sign != '\0' ? 1 : 0));
      if (!Follows(word, "endraw")) continue;
      const auto end = BlockEnd(SkipSpace(word + 6));
      if (!end.has_value()) continue;
      PushData(at_, p, sign, true);
      return Advance(*end);
    }
    EndInside(tag, "Missing end of raw directive");
  }

  // The source ends inside a comment or raw block: an error, unless the block was only just opened.
  void EndInside(size_t tag, std::string_view message) {
    at_ < source_.size() ? Fail(tag, message) : Advance(source_.size());
  }

  void LexComment(size_t tag) {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) return EndInside(tag, "Missing end of comment tag");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    size_t next = end + 2;
    if (sign == '-') {
      next = SkipSpace(next);
    } else if (sign != '+' && rules_.trim_blocks && next < source_.size() && source_[next] == '\n') {
      ++next;
    }
    Advance(next);
  }

  // The tokens of one tag, up to and with its end.
  void LexInside(bool block, bool to_end) {
    std::string open;  // the closing brackets still to come
    while (status_.ok()) {
      if (open.empty() && !to_end) {
        if (const auto end = block ? BlockEnd(at_) : VariableEnd(at_)) {
          Push(block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "", at_);
          return Advance(*end);
        }
      }
      const size_t next = SkipSpace(at_);
      if (next > at_) {
        Advance(next);
        continue;
      }
      if (at_ >= source_.size()) return;
      LexToken(&open);
    }
  }

  std::optional<size_t> VariableEnd(size_t at) const {
    if (Follows(at, "-}}")) return SkipSpace(at + 3);
    if (Follows(at, "}}")) return at + 2;
    return std::nullopt;
  }

  void LexToken(std::string* open) {
    const char c = source_[at_];
    if (IsDigitByte(c)) return LexNumber();
    if (IsWord(DecodeAt(source_, at_).value)) {
      size_t end = at_;
      while (end < source_.size()) {
        const CodePoint letter = DecodeAt(source_, end);
        if (!IsWord(letter.value)) break;
        end += letter.bytes;
      }
      const std::string name = source_.substr(at_, end - at_);
      if (!IsIdentifier(name)) return Fail(at_, "Invalid character in identifier");
      Push(TokenKind::kName, name, at_);
      return Advance(end);
    }
    if (c == '\'' || c == '"') return LexString(c);
    LexOperator(open);
  }

  // Digits with single underscores between them, from `at`; returns the end.
  size_t Digits(size_t at) const {
    size_t end = at;
    while (end < source_.size() &&
           (IsDigitByte(source_[end]) ||
            (source_[end] == '_' && end > at && end + 1 < source_.size() && IsDigitByte(source_[end + 1])))) {
      ++end;
    }
    return end;
  }

  void LexNumber() {
    const size_t whole = Digits(at_);
    size_t end = whole;
    if (at_ == 0 || source_[at_ - 1] != '.') {
      if (end + 1 < source_.size() && source_[end] == '.' && IsDigitByte(source_[end + 1])) end = Digits(end + 1);
      size_t exponent = end;
      if (exponent < source_.size() && (source_[exponent] | 0x20) == 'e') {
        ++exponent;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (exponent < source_.size() && IsDigitByte(source_[exponent])) end = Digits(exponent);
      }
    }
    if (end > whole) {
      Token& token = Push(TokenKind::kFloat, source_.substr(at_, end - at_), at_);
      token.number = ParseFloat(token.text).value_or(0);
      return Advance(end);
    }
    // Integers: 0x, 0o and 0b prefixes; a decimal has no leading zero unless it is all zeros.
    const char mark =
        source_[at_] == '0' && at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : '\0';
    const int base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    auto is_digit = [&](char d) {
      if (base == 16 && (d | 0x20) >= 'a' && (d | 0x20) <= 'f') return true;
      return d >= '0' && d < '0' + std::min(base, 10);
    };
    end = at_ + (base == 10 ? 0 : 2);
    const bool zeros = base == 10 && source_[at_] == '0';
    while (end < source_.size()) {
      const size_t digit = end + (source_[end] == '_' ? 1 : 0);
      if (digit >= source_.size() || !is_digit(source_[digit]) || (zeros && source_[digit] != '0')) break;
      end = digit + 1;
    }
    if (base != 10 && end == at_ + 2) end = at_ + 1;  // "0x": the number 0, then a name
    bool overflow = false;
    Token& token = Push(TokenKind::kInteger, source_.substr(at_, end - at_), at_);
    token.integer = ParseInt(token.text, 0, &overflow).value_or(0);
    if (overflow) {
      token.kind = TokenKind::kError;
      status_ = AtPosition(InvalidArgument("TEMPLATE_LIMIT: the integer {} is outside 64 bits", token.text),
                           token.at.line, token.at.column);
      return;
    }
    Advance(end);
  }

  void LexString(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return FailCharacter();
    std::string decoded;
    const std::string error = DecodeEscapes(std::string_view(source_).substr(at_ + 1, end - at_ - 1), &decoded);
    if (!error.empty()) return Fail(at_, error);
    Push(TokenKind::kString, std::move(decoded), at_);
    Advance(end + 1);
  }

  void LexOperator(std::string* open) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!Follows(at_, op)) continue;
      const char c = op[0];
      if (c == '(' || c == '[' || c == '{') open->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
      if (c == ')' || c == ']' || c == '}') {
        if (open->empty()) return Fail(at_, fmt::format("unexpected '{}'", c));
        const char expected = open->back();
        open->pop_back();
        if (expected != c) return Fail(at_, fmt::format("unexpected '{}', expected '{}'", c, expected));
      }
      Push(TokenKind::kOperator, std::string(op), at_);
      return Advance(at_ + op.size());
    }
    FailCharacter();
  }

  void FailCharacter() {
    const std::string_view character = std::string_view(source_).substr(at_, DecodeAt(source_, at_).bytes);
    const size_t index = CodePointCount(std::string_view(source_).substr(0, at_));
    Fail(at_, fmt::format("unexpected char {} at {}", QuotedRepr(character), index));
  }

  const std::string source_;
  const WhitespaceRules rules_;
  std::vector<Token> tokens_;
  absl::Status status_;
  size_t at_ = 0;
  bool line_starting_ = true;  // the last match ended a line
  size_t counted_ = 0;         // how far position_ has come
  Position position_;
};

}  // namespace

TokenList Tokenize(std::string_view source, LexerMode mode, const WhitespaceRules& rules) {
  return Lexer(NormalizeNewlines(source, rules.keep_trailing_newline), rules).Run(mode);
}

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "template data / text";
    case TokenKind::kVariableBegin:
      return "begin of print statement";
    case TokenKind::kVariableEnd:
      return "end of print statement";
    case TokenKind::kBlockBegin:
      return "begin of statement block";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kName:
    case TokenKind::kOperator:
      return token.text;
    case TokenKind::kString:
      return "string";
    case TokenKind::kInteger:
      return "integer";
    case TokenKind::kFloat:
      return "float";
    case TokenKind::kEnd:
    case TokenKind::kError:
      return "end of template";
  }
  return "token";
}

}  // namespace conclave::jinja
