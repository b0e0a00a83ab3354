// SPDX-License-Identifier: Apache-2.0
// Source text into tokens, by the rules of Python jinja2's lexer with trim_blocks and lstrip_blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace conclave::jinja {

struct Position {
  uint32_t line = 1;    // from 1
  uint32_t column = 1;  // from 1, in code points
};

enum class TokenKind : uint8_t {
  kData,  // text between tags
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
  kError,  // the source goes wrong here; reported if the parser gets so far
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  Position at;
  std::string text;  // data, name, decoded string, operator
  int64_t integer = 0;
  double number = 0;
};

struct TokenList {
  std::vector<Token> tokens;  // ends with kEnd or kError
  absl::Status error;         // of kError
};

enum class LexerMode { kTemplate, kExpression };

// What a template looks like to the parser. In kExpression mode the source is the inside of one "{{ }}".
struct WhitespaceRules {
  bool trim_blocks = true;    // the first newline after a block tag goes
  bool lstrip_blocks = true;  // white space before a block tag that begins its line goes
  bool keep_trailing_newline = false;
};
TokenList Tokenize(std::string_view source, LexerMode mode, const WhitespaceRules& rules);

// "name", "end of print statement", ...: the token as error messages call it.
std::string Describe(const Token& token);

}  // namespace conclave::jinja
