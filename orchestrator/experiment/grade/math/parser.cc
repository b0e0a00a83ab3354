// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/parser.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "orchestrator/experiment/grade/math/atom_parser.h"

namespace conclave::grade::math {
namespace {

bool IsSeparator(const Token* token) {
  return token != nullptr && token->kind == TokenKind::kSign &&
         std::string_view(",;A").find(token->sign) != std::string_view::npos;
}

// Statements in groups that "and", "or" and ";" part: p = 5, q = 2 and p = 7, q = 2.
int32_t JoinGroups(Arena& arena, std::vector<std::vector<int32_t>> groups) {
  std::erase_if(groups, [](const auto& group) { return group.empty(); });
  if (groups.empty()) return -1;
  bool together = groups.size() > 1 && groups[0].size() > 1;
  for (const auto& group : groups) {
    together = together && group.size() == groups[0].size();
    for (int32_t item : group) together = together && item >= 0 && arena[item].kind == Kind::kRelation;
  }
  std::vector<int32_t> items;
  for (auto& group : groups) {
    if (together) {
      items.push_back(arena.Add(Kind::kGroup, std::move(group)));
    } else {
      items.insert(items.end(), group.begin(), group.end());
    }
  }
  if (items.size() == 1) return items[0];
  return arena.Add(Kind::kList, std::move(items));
}

}  // namespace

int32_t AnswerParser::Answer() {
  std::vector<std::vector<int32_t>> groups(1);
  bool value_needed = true;
  while (Peek() != nullptr && !AtClose()) {
    if (IsSeparator(Peek())) {
      const char sign = Take().sign;
      if (sign != ',' && !groups.back().empty()) groups.emplace_back();
      value_needed = true;
      continue;
    }
    if (!value_needed) return -1;
    const int32_t item = Relation();
    if (item < 0) return -1;
    groups.back().push_back(item);
    value_needed = false;
  }
  return JoinGroups(arena_, std::move(groups));
}

int32_t AnswerParser::Relation() {
  const Nested nested(*this);
  if (!nested.ok()) return -1;
  std::vector<int32_t> sides = {Ratio()};
  std::string signs;
  while (sides.back() >= 0 && AtSign("=<>LGN~E")) {
    signs += Take().sign;
    sides.push_back(Ratio());
  }
  if (signs.empty()) return sides[0];
  return arena_.Add(Kind::kRelation, std::move(sides), std::move(signs));
}

int32_t AnswerParser::Ratio() {
  const int32_t left = Union();
  if (left < 0 || !AtSign(":")) return left;
  if (arena_[left].kind == Kind::kText) return -1;  // "Answer: 5" is a sentence
  Take();
  return arena_.Add(Kind::kRatio, {left, Union()});
}

int32_t AnswerParser::Union() {
  int32_t left = Sum();
  while (left >= 0 && AtSign("UI\\")) {
    const char sign = Take().sign;
    const int32_t right = Sum();
    if (right < 0) return -1;
    std::vector<int32_t> args = {left, right};
    if (sign == 'U' && arena_[left].kind == Kind::kUnion && arena_[left].name == "U") {
      args = arena_[left].args;
      args.push_back(right);
    }
    left = arena_.Add(Kind::kUnion, std::move(args), std::string(1, sign));
  }
  return left;
}

int32_t AnswerParser::Sum() {
  std::vector<int32_t> terms;
  bool first = true;
  while (first || AtSign("+-PM")) {
    char sign = '+';
    if (AtSign("+-PM")) sign = Take().sign;
    first = false;
    int32_t term = Term();
    if (term < 0) return -1;
    if (sign == '-') term = arena_.Add(Kind::kNegate, {term});
    if (sign == 'P') term = arena_.Add(Kind::kPlusMinus, {term}, "+-");
    if (sign == 'M') term = arena_.Add(Kind::kPlusMinus, {term}, "-+");
    terms.push_back(term);
  }
  return terms.size() == 1 ? terms[0] : arena_.Add(Kind::kAdd, std::move(terms));
}

// 1 4/5 and 1\frac{4}{5} are sums: a whole number and a fraction of whole numbers below one.
bool AnswerParser::IsMixed(int32_t whole, int32_t fraction) const {
  if (whole < 0 || fraction < 0 || arena_[whole].kind != Kind::kNumber) return false;
  if (arena_.Number(arena_[whole]).get_den() != 1) return false;
  const Node& node = arena_[fraction];
  if (node.kind != Kind::kMul || node.args.size() != 2) return false;
  const Node& top = arena_[node.args[0]];
  const Node& inverse = arena_[node.args[1]];
  if (top.kind != Kind::kNumber || inverse.kind != Kind::kInverse) return false;
  const Node& bottom = arena_[inverse.args[0]];
  return bottom.kind == Kind::kNumber && arena_.Number(top) < arena_.Number(bottom);
}

// "3 1/2": two whole numbers side by side are nothing else.
int32_t AnswerParser::PlainMixed(int32_t whole) {
  const int32_t top = Power();
  if (!AtSign("/")) return -1;
  Take();
  const int32_t bottom = Power();
  const int32_t fraction = arena_.Add(Kind::kMul, {top, arena_.Add(Kind::kInverse, {bottom})});
  if (!IsMixed(whole, fraction)) return -1;
  return arena_.Add(Kind::kAdd, {whole, fraction});
}

int32_t AnswerParser::Term() {
  std::vector<int32_t> factors = {SignedPower()};
  while (factors.back() >= 0 && Peek() != nullptr) {
    if (AtSign("*/")) {
      const bool divide = Take().sign == '/';
      int32_t factor = SignedPower();
      if (divide) factor = arena_.Add(Kind::kInverse, {factor});
      factors.push_back(factor);
    } else if (Peek()->kind == TokenKind::kWord) {
      break;
    } else if (StartsAtom()) {
      if (arena_[factors.back()].kind == Kind::kText) return -1;  // prose
      const bool number = Peek()->kind == TokenKind::kNumber;
      const bool after_number = arena_[factors.back()].kind == Kind::kNumber;
      const bool fraction = Peek()->kind == TokenKind::kFunction && Peek()->text == "frac";
      if (number && after_number) {
        factors.back() = factors.size() == 1 ? PlainMixed(factors[0]) : -1;
        continue;
      }
      const int32_t factor = Power();
      if (fraction && IsMixed(factors.back(), factor)) {
        factors.back() = arena_.Add(Kind::kAdd, {factors.back(), factor});
      } else {
        factors.push_back(factor);
      }
    } else {
      break;
    }
  }
  if (factors.back() < 0) return -1;
  const int32_t product = factors.size() == 1 ? factors[0] : arena_.Add(Kind::kMul, std::move(factors));
  return WithUnit(product);
}

// Words behind a value: "cm", "square \text{inches}", "\text{ cm}^2", "km/h".
int32_t AnswerParser::WithUnit(int32_t value) {
  std::string unit;
  while (value >= 0 && Peek() != nullptr) {
    if (Peek()->kind == TokenKind::kWord) {
      unit += (unit.empty() ? "" : " ") + Take().text;
    } else if (!unit.empty() && AtSign("/") && Peek(1) != nullptr && Peek(1)->kind == TokenKind::kWord) {
      Take();
      unit += "/" + Take().text;
    } else if (!unit.empty() && AtSign("^")) {
      Take();
      const bool braced = AtSign("{");
      if (braced) Take();
      if (Peek() == nullptr || Peek()->kind != TokenKind::kNumber) return -1;
      unit += "^" + Take().text;
      if (braced && !AtSign("}")) return -1;
      if (braced) Take();
    } else {
      break;
    }
  }
  if (unit.empty() || arena_[value].kind == Kind::kText) return value;
  return arena_.Add(Kind::kUnit, {value}, std::move(unit));
}

int32_t AnswerParser::SignedPower() {
  if (!AtSign("+-")) return Power();
  const bool minus = Take().sign == '-';
  const int32_t value = Power();
  return minus ? arena_.Add(Kind::kNegate, {value}) : value;
}

int32_t AnswerParser::Power() {
  const Nested nested(*this);
  if (!nested.ok()) return -1;
  int32_t base = Atom();
  for (int postfixes = 0; base >= 0 && Peek() != nullptr && postfixes < kNestingMax; ++postfixes) {
    if (AtSign("!")) {
      Take();
      base = arena_.Add(Kind::kFactorial, {base});
    } else if (AtSign("'")) {
      Take();
      base = arena_.Add(Kind::kOpaque, {base}, "prime");
    } else if (AtSign("%")) {
      Take();
      base = arena_.Add(Kind::kPercent, {base});
    } else if (AtSign("D")) {
      Take();
      base = arena_.Add(Kind::kDegree, {base});
    } else if (AtSign("_")) {
      Take();
      base = Subscripted(base, Script());
    } else if (AtSign("^")) {
      Take();
      base = Raised(base);
    } else {
      break;
    }
  }
  return base;
}

// Behind "^": a degree sign, primes, or an exponent.
int32_t AnswerParser::Raised(int32_t base) {
  const bool braced = AtSign("{");
  const size_t inner = braced ? 1 : 0;
  const Token* mark = Peek(inner);
  if (mark != nullptr && mark->kind == TokenKind::kSign && (mark->sign == 'D' || mark->sign == '\'')) {
    const bool degree = mark->sign == 'D';
    Take();
    if (braced) Take();
    if (braced && AtSign("}")) Take();
    return degree ? arena_.Add(Kind::kDegree, {base}) : arena_.Add(Kind::kOpaque, {base}, "prime");
  }
  return arena_.Add(Kind::kPower, {base, Script()});
}

// An index or exponent: a group, or one signed power.
int32_t AnswerParser::Script() {
  if (AtSign("{")) return Group();
  return SignedPower();
}

int32_t AnswerParser::Subscripted(int32_t base, int32_t index) {
  if (base < 0 || index < 0) return -1;
  const Node& node = arena_[base];
  const Node& sub = arena_[index];
  if (node.kind == Kind::kNumber) {
    if (node.name.empty()) return -1;  // 1.5_3
    return arena_.Add(Kind::kBase, {index}, node.name);
  }
  if (node.kind == Kind::kSymbol && sub.kind == Kind::kSymbol) {
    return arena_.Add(Kind::kSymbol, {}, node.name + "_" + sub.name);
  }
  if (node.kind == Kind::kSymbol && sub.kind == Kind::kNumber) {
    return arena_.Add(Kind::kSymbol, {}, node.name + "_" + arena_.Number(sub).get_str());
  }
  return arena_.Add(Kind::kOpaque, {base, index}, "sub");
}

int32_t Parse(Arena& arena, std::string_view text, Commas commas) {
  std::optional<std::vector<Token>> tokens = Tokenize(text, commas);
  if (!tokens || tokens->empty()) return -1;
  AnswerParser parser(arena, *std::move(tokens));
  const int32_t root = parser.Answer();
  return parser.AtEnd() ? root : -1;
}

bool IsName(const Arena& arena, int32_t node) {
  // Breadth is bounded by the arena; names are shallow, so a short worklist will do.
  std::vector<int32_t> work = {node};
  bool fraction = false;
  for (size_t k = 0; k < work.size(); ++k) {
    if (work.size() > 32) return false;
    const Node& n = arena[work[k]];
    switch (n.kind) {
      case Kind::kSymbol:
        if (n.name == "pi" || n.name == "e" || n.name == "i" || n.name == "inf") return false;
        break;
      case Kind::kText:
        break;
      case Kind::kOpaque:  // f(2), x'
        if (n.name == "sum" || n.name == "prod" || n.name == "int" || n.name == "lim") return false;
        break;
      case Kind::kAbs:
      case Kind::kTuple:
      case Kind::kInverse:
      case Kind::kRatio:
        fraction = fraction || n.kind == Kind::kInverse;
        work.insert(work.end(), n.args.begin(), n.args.end());
        break;
      case Kind::kMul: {
        // Points of a figure, AB; a function of anything, W(n), S_{ABC}; not 2x.
        const Node& head = arena[n.args[0]];
        if (head.kind != Kind::kSymbol && head.kind != Kind::kMul && head.kind != Kind::kAbs) return false;
        work.insert(work.end(), n.args.begin(), n.args.end());
        break;
      }
      case Kind::kNumber:
        // The argument of a name: f(2) was kOpaque, P(2) is a product; a number alone is no name.
        if (k == 0) return false;
        break;
      default:
        return false;
    }
  }
  return true;
}

}  // namespace conclave::grade::math
