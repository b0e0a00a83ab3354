// SPDX-License-Identifier: Apache-2.0
// Words of written mathematics: LaTeX, plain text and the usual Unicode signs, in one pass.
#pragma once

#include <gmpxx.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::grade::math {

enum class TokenKind : uint8_t {
  kNumber,    // value; text: the digits where it is a whole number without separators, else empty
  kSymbol,    // text: name of a letter or constant
  kFunction,  // text: sin, frac, sqrt, sum, ..
  kWord,      // text: prose or a unit
  kSign,      // sign
  kBegin,     // text: name of a matrix environment
  kEnd,       // of a matrix environment
};

// Signs are their own character where they have one. The others: L <=, G >=, N not equal, ~ about, E element of,
// U union, I intersection, \ difference, P plus or minus, M minus or plus, D degree sign, S and T braces of a set,
// A "and" or "or", R row break, f g floor, c d ceiling.
struct Token {
  TokenKind kind;
  char sign = 0;
  bool space = false;  // white space before it
  std::string text;
  mpq_class value;
};

// How commas between digits are read.
struct Commas {
  bool group = true;     // 1,234 is 1234 (outside brackets)
  bool decimal = false;  // 2,74 is 2.74
};

// nullopt: a character or command that no answer is written with, or a limit of expression.h.
std::optional<std::vector<Token>> Tokenize(std::string_view text, Commas commas);

}  // namespace conclave::grade::math
