// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/token.h"

#include <algorithm>
#include <array>
#include <utility>

#include "orchestrator/experiment/grade/math/expression.h"
#include "orchestrator/experiment/grade/math/vocabulary.h"

namespace conclave::grade::math {
namespace {

constexpr int kTextNestingMax = 4;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '~'; }
bool IsHigh(char c) { return static_cast<unsigned char>(c) >= 0x80; }

class Tokenizer {
 public:
  Tokenizer(std::string_view text, Commas commas, int nesting) : text_(text), commas_(commas), nesting_(nesting) {}

  std::optional<std::vector<Token>> Run() {
    while (i_ < text_.size()) {
      if (tokens_.size() >= kTokensMax || !Next()) return std::nullopt;
    }
    return std::move(tokens_);
  }

 private:
  bool At(std::string_view what, size_t ahead = 0) const {
    return i_ + ahead <= text_.size() && text_.substr(i_ + ahead).starts_with(what);
  }
  char Peek(size_t ahead = 0) const { return i_ + ahead < text_.size() ? text_[i_ + ahead] : '\0'; }

  void Push(TokenKind kind, std::string_view text, char sign = 0) {
    tokens_.push_back({kind, sign, space_, std::string(text), {}});
    space_ = false;
  }
  void Sign(char sign) {
    if (sign == '(' || sign == '[' || sign == 'S') ++brackets_;
    if (sign == ')' || sign == ']' || sign == 'T') --brackets_;
    Push(TokenKind::kSign, "", sign);
  }

  bool Apply(const Meaning& meaning) {
    switch (meaning.action) {
      case Action::kSkip:
        space_ = true;
        return true;
      case Action::kSkipArgument:
        (void)Braced();
        return true;
      case Action::kText:
        return Text();
      case Action::kSymbol:
        Push(TokenKind::kSymbol, meaning.text);
        return true;
      case Action::kFunction:
        Push(TokenKind::kFunction, meaning.text);
        return true;
      case Action::kSign:
        Sign(meaning.text[0]);
        return true;
      case Action::kBegin:
        return Environment(true);
      case Action::kEnd:
        return Environment(false);
    }
    return false;
  }

  bool Next() {
    const char c = text_[i_];
    if (IsSpace(c) || c == '$' || c == '"' || c == '`') {
      space_ = true;
      ++i_;
      return true;
    }
    if (c == '\\') return Backslash();
    if (IsDigit(c) || (c == '.' && IsDigit(Peek(1)))) return Number();
    if (IsAlpha(c)) return Letters();
    if (IsHigh(c)) return High();
    return Ascii(c);
  }

  bool Ascii(char c) {
    constexpr std::array<std::pair<std::string_view, char>, 5> kPairs = {
        {{"**", '^'}, {"<=", 'L'}, {">=", 'G'}, {"==", '='}, {"!=", 'N'}}};
    for (const auto& [pair, sign] : kPairs) {
      if (!At(pair) || (sign == 'N' && !space_)) continue;  // 5!=120 is a factorial
      i_ += 2;
      Sign(sign);
      return true;
    }
    if (At("...")) {
      i_ += 3;
      Push(TokenKind::kSymbol, "dots");
      return true;
    }
    ++i_;
    if (c == '.') {  // the end of a sentence, or the invisible bracket of \right.
      space_ = true;
      return true;
    }
    if (std::string_view("+-*/^_!'()[]{}|=<>,;:%&").find(c) == std::string_view::npos) return false;
    Sign(c);
    return true;
  }

  bool Backslash() {
    const char next = Peek(1);
    if (next == '\\') {
      i_ += 2;
      if (matrices_ > 0) {
        if (Peek() == '[') {  // \\[2pt]
          while (i_ < text_.size() && text_[i_] != ']') ++i_;
          ++i_;
        }
        Sign('R');
      } else if (IsAlpha(Peek())) {
        --i_;  // \\frac, a backslash that was escaped once too often
      }
      return true;
    }
    if (!IsAlpha(next)) {
      i_ += next == '\0' ? 1 : 2;
      constexpr std::string_view kSigns = "{}%|";
      constexpr std::string_view kMeans = "ST%|";
      const size_t sign = kSigns.find(next);
      if (sign != std::string_view::npos && next != '\0') {
        Sign(kMeans[sign]);
      } else {
        space_ = true;  // spaces, \$, \( and the like
      }
      return true;
    }
    size_t length = 1;
    while (IsAlpha(Peek(1 + length))) ++length;
    const std::string_view name = text_.substr(i_ + 1, length);
    // A command that runs into the letter behind it (\quadx) is the longest known beginning.
    for (size_t n = length; n >= 2; --n) {
      const std::optional<Meaning> meaning = CommandMeaning(name.substr(0, n));
      if (!meaning) continue;
      i_ += 1 + n;
      return Apply(*meaning);
    }
    i_ += 1 + length;
    Push(TokenKind::kSymbol, "\\" + std::string(name));
    return true;
  }

  // The content of the group that stands here, or the one character; empty when there is none.
  std::string_view Braced() {
    while (i_ < text_.size() && IsSpace(text_[i_])) ++i_;
    if (i_ >= text_.size()) return "";
    if (text_[i_] != '{') return text_.substr(i_++, 1);
    const size_t begin = ++i_;
    int depth = 1;
    for (; i_ < text_.size(); ++i_) {
      if (text_[i_] == '\\') {
        ++i_;
      } else if (text_[i_] == '{') {
        ++depth;
      } else if (text_[i_] == '}' && --depth == 0) {
        return text_.substr(begin, i_++ - begin);
      }
    }
    i_ = text_.size();
    return text_.substr(begin);
  }

  // \text{ and }, \text{ cm}, \text{Evelyn}; what holds no word, as in \text{(C)} or \mathrm{e}, is mathematics.
  bool Text() {
    const std::string_view content = Braced();
    bool word = false;
    for (size_t i = 0; i + 1 < content.size(); ++i) word = word || (IsAlpha(content[i]) && IsAlpha(content[i + 1]));
    for (char c : content) word = word || IsHigh(c);
    const size_t first = content.find_first_not_of(' ');
    if (first == std::string_view::npos) {
      space_ = true;
      return true;
    }
    const std::string_view trimmed = content.substr(first, content.find_last_not_of(" .") + 1 - first);
    if (const auto meaning = WordMeaning(trimmed)) return Apply(*meaning);
    if (word && !IsDigit(trimmed.empty() ? ' ' : trimmed.front())) {
      Push(TokenKind::kWord, trimmed);
      return true;
    }
    if (trimmed == "R" || trimmed == "m" || trimmed == "g" || trimmed == "s") {  // the reals; one-letter units
      Push(trimmed == "R" || !AfterNumber() ? TokenKind::kSymbol : TokenKind::kWord, trimmed);
      return true;
    }
    std::optional<std::vector<Token>> inner;
    if (nesting_ == kTextNestingMax || !(inner = Tokenizer(content, commas_, nesting_ + 1).Run())) return false;
    for (Token& token : *inner) tokens_.push_back(std::move(token));
    return true;
  }

  bool AfterNumber() const {
    return !tokens_.empty() && (tokens_.back().kind == TokenKind::kNumber || tokens_.back().sign == '}');
  }

  bool Environment(bool begin) {
    const std::string_view name = Braced();
    constexpr std::array<std::string_view, 5> kMatrices = {"matrix", "pmatrix", "bmatrix", "array", "smallmatrix"};
    if (std::find(kMatrices.begin(), kMatrices.end(), name) == kMatrices.end()) return false;
    if (begin && name == "array") (void)Braced();
    matrices_ += begin ? 1 : -1;
    Push(begin ? TokenKind::kBegin : TokenKind::kEnd, name);
    return true;
  }

  // The length of what groups thousands at i, with three digits behind it: "," "{,}" ",\!" "\," and thin spaces.
  size_t GroupMark(size_t i) const {
    const std::string_view rest = text_.substr(i);
    size_t n = 0;
    const auto skip = [&] {
      while (n < rest.size() && rest[n] == ' ') ++n;
    };
    skip();
    const size_t spaces = n;
    for (std::string_view mark : {"{,}", "{, }", ",\\!", "\\,", "\\!", "\u2009", "\u202f", ","}) {
      if (!rest.substr(n).starts_with(mark)) continue;
      const bool plain = mark == ",";
      if (plain && (!commas_.group || brackets_ > 0 || spaces > 0)) return 0;
      n += mark.size();
      if (!plain) skip();
      size_t digits = 0;
      while (n + digits < rest.size() && IsDigit(rest[n + digits])) ++digits;
      return digits == 3 ? n : 0;
    }
    return 0;
  }

  void Digits(std::string& out) {
    while (i_ < text_.size() && IsDigit(text_[i_])) out += text_[i_++];
  }

  // digits, decimals and a period that repeats: 0.1\overline{6}; 1.5e-3.
  bool Number() {
    std::string whole;
    std::string decimals;
    std::string repeating;
    Digits(whole);
    const bool plain = !whole.empty();
    bool grouped = false;
    if (plain && whole.size() <= 3 && whole[0] != '0') {
      while (const size_t mark = GroupMark(i_)) {
        i_ += mark;
        Digits(whole);
        grouped = true;
      }
    }
    const bool comma = commas_.decimal && brackets_ == 0 && Peek() == ',' && IsDigit(Peek(1)) && !grouped;
    bool fraction = false;
    if (comma || (Peek() == '.' && (IsDigit(Peek(1)) || At("\\overline{", 1)))) {
      ++i_;
      Digits(decimals);
      fraction = true;
      if (At("\\overline{")) {
        i_ += 10;
        Digits(repeating);
        if (Peek() != '}' || repeating.empty()) return false;
        ++i_;
      }
    }
    int exponent = 0;
    if (!ReadExponent(exponent)) return false;
    if (whole.size() + decimals.size() + repeating.size() > kDigitsMax) return false;
    Push(TokenKind::kNumber, plain && !grouped && !fraction && exponent == 0 ? whole : std::string());
    tokens_.back().value = Value(whole, decimals, repeating, exponent);
    return true;
  }

  bool ReadExponent(int& exponent) {
    if (Peek() != 'e' && Peek() != 'E') return true;
    const size_t sign = Peek(1) == '-' || Peek(1) == '+' ? 1 : 0;
    if (!IsDigit(Peek(1 + sign))) return true;
    std::string digits;
    const bool negative = Peek(1) == '-';
    i_ += 1 + sign;
    Digits(digits);
    if (digits.size() > 4) return false;
    exponent = std::stoi(digits) * (negative ? -1 : 1);
    return true;
  }

  static mpq_class Value(const std::string& whole, const std::string& decimals, const std::string& repeating,
                         int exponent) {
    const auto power = [](size_t n) {
      mpz_class ten;
      mpz_ui_pow_ui(ten.get_mpz_t(), 10, n);
      return ten;
    };
    mpq_class value(mpz_class("0" + whole + decimals, 10), power(decimals.size()));
    if (!repeating.empty()) {
      value += mpq_class(mpz_class(repeating, 10), (power(repeating.size()) - 1) * power(decimals.size()));
    }
    value.canonicalize();
    if (exponent > 0) value *= power(static_cast<size_t>(exponent));
    if (exponent < 0) value /= power(static_cast<size_t>(-exponent));
    return value;
  }

  bool Letters() {
    size_t n = 0;
    while (IsAlpha(Peek(n))) ++n;
    const std::string_view run = text_.substr(i_, n);
    if (const auto meaning = WordMeaning(run)) {
      i_ += n;
      return Apply(*meaning);
    }
    for (size_t known : {size_t{4}, size_t{3}}) {  // sinx, xor: a function and its letter
      if (n != known + 1) continue;
      const auto meaning = WordMeaning(run.substr(0, known));
      if (!meaning || meaning->action != Action::kFunction) continue;
      i_ += known;
      return Apply(*meaning);
    }
    for (std::string_view separator : {"or", "and"}) {  // 1orW(x)
      if (!run.starts_with(separator) || !AfterNumber()) continue;
      i_ += separator.size();
      Sign('A');
      return true;
    }
    if (n >= 4 || (n >= 2 && UnitName(run))) {
      Push(TokenKind::kWord, run);
      i_ += n;
      return true;
    }
    Push(TokenKind::kSymbol, run.substr(0, 1));
    ++i_;
    return true;
  }

  bool High() {
    constexpr std::array<std::string_view, 4> kPowers = {"²", "³", "¹", "⁴"};
    constexpr std::array<std::string_view, 4> kDigit = {"2", "3", "1", "4"};
    for (size_t k = 0; k < kPowers.size(); ++k) {
      if (!At(kPowers[k])) continue;
      i_ += kPowers[k].size();
      Sign('^');
      Push(TokenKind::kNumber, kDigit[k]);
      tokens_.back().value = mpq_class(mpz_class(std::string(kDigit[k]), 10));
      return true;
    }
    size_t bytes = 0;
    if (const auto meaning = UnicodeMeaning(text_.substr(i_), &bytes)) {
      i_ += bytes;
      return Apply(*meaning);
    }
    size_t n = 0;
    while (IsHigh(Peek(n)) || IsAlpha(Peek(n))) ++n;
    Push(TokenKind::kWord, text_.substr(i_, n));
    i_ += n;
    return true;
  }

  std::string_view text_;
  Commas commas_;
  size_t i_ = 0;
  bool space_ = false;
  int brackets_ = 0;
  int matrices_ = 0;
  int nesting_;  // of \text within \text
  std::vector<Token> tokens_;
};

}  // namespace

std::optional<std::vector<Token>> Tokenize(std::string_view text, Commas commas) {
  if (text.size() > kAnswerBytesMax) return std::nullopt;
  return Tokenizer(text, commas, 0).Run();
}

}  // namespace conclave::grade::math
