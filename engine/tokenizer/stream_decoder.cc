// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/stream_decoder.h"

namespace conclave::engine {

void StreamDecoder::Append(TokenId token, std::string* out) {
  if (!tokenizer_->Contains(token)) return;
  const TokenType type = tokenizer_->Type(token);
  if (type == TokenType::kControl || type == TokenType::kUnknown) return;
  utf8_.Append(tokenizer_->TokenBytes(token), out);
}

}  // namespace conclave::engine
