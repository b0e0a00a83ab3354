// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/atom_parser.h"

#include <utility>

namespace conclave::grade::math {

bool AnswerParser::StartsAtom() const {
  const Token* token = Peek();
  if (token == nullptr) return false;
  if (token->kind == TokenKind::kSign) return AtSign("([{Sfc") || (AtSign("|") && absolutes_ == 0);
  return token->kind != TokenKind::kEnd;
}

int32_t AnswerParser::Atom() {
  const Token* token = Peek();
  if (token == nullptr) return -1;
  switch (token->kind) {
    case TokenKind::kNumber:
      return Number();
    case TokenKind::kSymbol:
      return Symbol();
    case TokenKind::kFunction:
      return Function();
    case TokenKind::kWord:
      return Words();
    case TokenKind::kBegin:
      return Matrix();
    case TokenKind::kEnd:
      return -1;
    case TokenKind::kSign:
      break;
  }
  switch (token->sign) {
    case '(':
    case '[':
      return Bracketed();
    case '{':
      return Group();
    case 'S':
      return Between('T', Kind::kSet);
    case 'f':
      return Between('g', Kind::kFloor);
    case 'c':
      return Between('d', Kind::kCeiling);
    case '|':
      return absolutes_ > 0 ? -1 : Between('|', Kind::kAbs);
    default:
      return -1;
  }
}

int32_t AnswerParser::Number() {
  Token token = Take();
  const int32_t node = arena_.Add(Kind::kNumber, {}, token.text);
  return node < 0 ? -1 : arena_.SetNumber(node, std::move(token.value));
}

// A letter; a function by its usual letters when it is applied: f(x).
int32_t AnswerParser::Symbol() {
  Token token = Take();
  const bool function = token.text == "f" || token.text == "g" || token.text == "h";
  if (!function || !AtSign("(")) return arena_.Add(Kind::kSymbol, {}, std::move(token.text));
  Take();
  std::vector<int32_t> arguments;
  if (Items(arguments) < 0 || !AtSign(")")) return -1;
  Take();
  return arena_.Add(Kind::kOpaque, std::move(arguments), std::move(token.text));
}

int32_t AnswerParser::Words() {
  std::string words = Take().text;
  while (Peek() != nullptr && Peek()->kind == TokenKind::kWord) words += " " + Take().text;
  return arena_.Add(Kind::kText, {}, std::move(words));
}

// Items up to a closing bracket, which is left standing. -1 on an error, else how many.
int32_t AnswerParser::Items(std::vector<int32_t>& items) {
  while (!AtClose()) {
    if (Peek() == nullptr) return -1;
    const int32_t item = Relation();
    if (item < 0) return -1;
    items.push_back(item);
    if (!AtSign(",;A")) break;
    while (AtSign(",;A")) Take();  // 1, 2, and 3
  }
  return static_cast<int32_t>(items.size());
}

// { .. }: what is inside; several items are a list.
int32_t AnswerParser::Group() {
  const Nested nested(*this);
  if (!nested.ok()) return -1;
  Take();
  const int absolutes = std::exchange(absolutes_, 0);
  const int32_t inside = Answer();
  absolutes_ = absolutes;
  if (!AtSign("}")) return Peek() == nullptr ? inside : -1;  // \boxed{.. cut off
  Take();
  return inside;
}

int32_t AnswerParser::Between(char close, Kind kind) {
  Take();
  const int absolutes = std::exchange(absolutes_, kind == Kind::kAbs ? 1 : 0);
  std::vector<int32_t> items;
  const int32_t count = Items(items);
  absolutes_ = absolutes;
  if (count < 0 || Peek() == nullptr || Peek()->kind != TokenKind::kSign || Peek()->sign != close) return -1;
  Take();
  if (kind != Kind::kSet && count != 1) return -1;
  return arena_.Add(kind, std::move(items));
}

// ( ) and [ ] in any mixture: a grouping, a tuple or an interval.
int32_t AnswerParser::Bracketed() {
  const Nested nested(*this);
  if (!nested.ok()) return -1;
  const char open = Take().sign;
  const int absolutes = std::exchange(absolutes_, 0);
  std::vector<int32_t> items;
  const int32_t count = Items(items);
  absolutes_ = absolutes;
  if (count <= 0 || !AtSign(")]")) return -1;
  const char close = Take().sign;
  if (count == 1) return items[0];
  if (count == 2 && (open == '[' || close == ']')) {
    return arena_.Add(Kind::kInterval, std::move(items), std::string{open, close});
  }
  return arena_.Add(Kind::kTuple, std::move(items));
}

int32_t AnswerParser::Matrix() {
  const Nested nested(*this);
  if (!nested.ok()) return -1;
  Take();
  std::vector<int32_t> cells;
  size_t columns = 0;
  size_t row_begin = 0;
  while (Peek() != nullptr) {
    if (AtMatrixEnd() && cells.size() == row_begin) break;  // a row break before the end
    const int32_t cell = Relation();
    if (cell < 0) return -1;
    cells.push_back(cell);
    if (AtSign("&")) {
      Take();
      continue;
    }
    if (columns == 0) columns = cells.size();
    if (cells.size() - row_begin != columns) return -1;
    row_begin = cells.size();
    if (!AtSign("R")) break;
    Take();
  }
  if (!AtMatrixEnd() || columns == 0) return -1;
  Take();
  return arena_.Add(Kind::kMatrix, std::move(cells), std::to_string(columns));
}

// The argument of \frac and the like: a group, or what stands next; of a number, TeX takes one digit.
int32_t AnswerParser::Argument(bool one_digit) {
  if (AtSign("{")) return Group();
  if (Peek() == nullptr) return -1;
  Token& token = tokens_[at_];
  if (one_digit && token.kind == TokenKind::kNumber && token.text.size() > 1) {
    const std::string digit = token.text.substr(0, 1);
    token.text.erase(0, 1);
    token.value = mpq_class(mpz_class(token.text, 10));
    const int32_t node = arena_.Add(Kind::kNumber, {}, digit);
    return node < 0 ? -1 : arena_.SetNumber(node, mpq_class(mpz_class(digit, 10)));
  }
  const Nested nested(*this);
  return nested.ok() ? Atom() : -1;
}

int32_t AnswerParser::Root() {
  int32_t degree = -1;
  if (AtSign("[")) {
    Take();
    degree = Sum();
    if (degree < 0 || !AtSign("]")) return -1;
    Take();
  }
  const int32_t radicand = Argument(false);
  if (degree < 0) degree = arena_.AddNumber(2);
  return arena_.Add(Kind::kRoot, {radicand, degree});
}

// What a function without brackets applies to: \sin 2x, \cot x, \log_2 8, \cos\frac{\pi}{6}.
int32_t AnswerParser::FunctionArgument() {
  const bool bracketed = AtSign("({");
  std::vector<int32_t> factors = {SignedPower()};
  while (!bracketed && factors.back() >= 0 && Peek() != nullptr) {
    const Token& next = *Peek();
    const bool fraction = next.kind == TokenKind::kFunction && (next.text == "frac" || next.text == "sqrt");
    if (next.kind != TokenKind::kSymbol && !fraction) break;
    factors.push_back(Power());
  }
  return factors.size() == 1 ? factors[0] : arena_.Add(Kind::kMul, std::move(factors));
}

int32_t AnswerParser::Elementary(const std::string& name) {
  int32_t base = -1;
  int32_t exponent = -1;
  if (AtSign("_")) {
    Take();
    base = AtSign("{") ? Group() : Argument(true);
    if (base < 0) return -1;
  }
  if (AtSign("^")) {
    Take();
    exponent = AtSign("{") ? Group() : SignedPower();
    if (exponent < 0) return -1;
  }
  const int32_t argument = FunctionArgument();
  if (argument < 0) return -1;
  const bool inverse = exponent >= 0 && arena_[exponent].kind == Kind::kNegate && name.size() == 3;
  const std::string function = inverse ? "arc" + name : name;
  const int32_t value = base >= 0 ? arena_.Add(Kind::kFunction, {argument, base}, function)
                                  : arena_.Add(Kind::kFunction, {argument}, function);
  return exponent < 0 || inverse ? value : arena_.Add(Kind::kPower, {value, exponent});
}

// \sum_{k=0}^{n} term and its kin: what they say, not what they amount to.
int32_t AnswerParser::Big(const std::string& name) {
  std::vector<int32_t> parts;
  for (int k = 0; k < 2 && AtSign("_^"); ++k) {
    Take();
    parts.push_back(AtSign("{") ? Group() : Argument(true));
    if (parts.back() < 0) return -1;
  }
  parts.push_back(Term());
  return arena_.Add(Kind::kOpaque, std::move(parts), name);
}

int32_t AnswerParser::Function() {
  const Nested nested(*this);
  if (!nested.ok()) return -1;
  const std::string name = Take().text;
  if (name == "frac") {
    const int32_t top = Argument(true);
    const int32_t bottom = Argument(true);
    return arena_.Add(Kind::kMul, {top, arena_.Add(Kind::kInverse, {bottom})});
  }
  if (name == "sqrt") return Root();
  if (name == "binom") {
    const int32_t n = Argument(true);
    return arena_.Add(Kind::kBinomial, {n, Argument(true)});
  }
  if (name == "sum" || name == "prod" || name == "int" || name == "lim") return Big(name);
  if (name == "abs") return arena_.Add(Kind::kAbs, {Argument(false)});
  if (name == "max" || name == "min" || name == "gcd") {
    if (!AtSign("(")) return -1;
    Take();
    std::vector<int32_t> items;
    if (Items(items) <= 0 || !AtSign(")")) return -1;
    Take();
    return arena_.Add(Kind::kOpaque, std::move(items), name);
  }
  return Elementary(name);
}

}  // namespace conclave::grade::math
