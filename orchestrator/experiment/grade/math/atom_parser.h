// SPDX-License-Identifier: Apache-2.0
// The parser behind parser.h: one token stream, one method per rule of the grammar. parser.cc has the operators,
// atom_parser.cc what they join.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestrator/experiment/grade/math/expression.h"
#include "orchestrator/experiment/grade/math/token.h"

namespace conclave::grade::math {

class AnswerParser {
 public:
  AnswerParser(Arena& arena, std::vector<Token> tokens) : arena_(arena), tokens_(std::move(tokens)) {}

  // Each gives a node, or -1.
  int32_t Answer();
  bool AtEnd() const { return at_ == tokens_.size(); }

 private:
  // One level of descent; not ok() at the limit.
  class Nested {
   public:
    explicit Nested(AnswerParser& parser) : parser_(parser) { ++parser_.depth_; }
    ~Nested() { --parser_.depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    bool ok() const { return parser_.depth_ <= 3 * kNestingMax + 2; }  // a bracket descends through three rules

   private:
    AnswerParser& parser_;
  };

  const Token* Peek(size_t ahead = 0) const { return at_ + ahead < tokens_.size() ? &tokens_[at_ + ahead] : nullptr; }
  Token Take() { return std::move(tokens_[at_++]); }
  bool AtSign(std::string_view signs, size_t ahead = 0) const {
    const Token* token = Peek(ahead);
    return token != nullptr && token->kind == TokenKind::kSign && signs.find(token->sign) != std::string_view::npos;
  }
  // A bracket that ends what is being read.
  bool AtClose() const { return AtSign(")]}Tgd&R") || (absolutes_ > 0 && AtSign("|")) || AtMatrixEnd(); }
  bool AtMatrixEnd() const { return Peek() != nullptr && Peek()->kind == TokenKind::kEnd; }
  bool StartsAtom() const;

  int32_t Relation();
  int32_t Ratio();
  int32_t Union();
  int32_t Sum();
  int32_t Term();
  int32_t SignedPower();
  int32_t Power();
  int32_t Raised(int32_t base);
  int32_t Script();
  int32_t Subscripted(int32_t base, int32_t index);
  int32_t WithUnit(int32_t value);
  int32_t PlainMixed(int32_t whole);
  bool IsMixed(int32_t whole, int32_t fraction) const;

  int32_t Atom();
  int32_t Number();
  int32_t Symbol();
  int32_t Words();
  int32_t Group();
  int32_t Bracketed();
  int32_t Items(std::vector<int32_t>& items);
  int32_t Between(char close, Kind kind);
  int32_t Matrix();
  int32_t Function();
  int32_t Argument(bool one_digit);
  int32_t FunctionArgument();
  int32_t Root();
  int32_t Elementary(const std::string& name);
  int32_t Big(const std::string& name);

  Arena& arena_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int absolutes_ = 0;  // | | that are open
};

}  // namespace conclave::grade::math
