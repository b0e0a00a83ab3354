// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/stream_decoder.h"

namespace conclave::engine {

bool IsShown(const Tokenizer& tokenizer, TokenId token) {
  if (!tokenizer.Contains(token)) return false;
  const TokenType type = tokenizer.Type(token);
  return type != TokenType::kControl && type != TokenType::kUnknown;
}

void StreamDecoder::Append(TokenId token, std::string* out) {
  if (!IsShown(*tokenizer_, token)) return;
  utf8_.Append(tokenizer_->TokenBytes(token), out);
}

}  // namespace conclave::engine
