// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/token_trie.h"

namespace conclave::engine {

void TokenTrie::Insert(std::string_view text, TokenId token) {
  first_bytes_.set(static_cast<uint8_t>(text[0]));
  uint32_t node = 0;
  for (const char byte : text) {
    const auto [it, added] = children_.emplace(Key(node, byte), static_cast<uint32_t>(tokens_.size()));
    node = it->second;
    if (added) tokens_.push_back(-1);
  }
  if (tokens_[node] < 0) tokens_[node] = token;
}

size_t TokenTrie::NextCandidate(std::string_view text, size_t position) const {
  while (position < text.size() && !first_bytes_[static_cast<uint8_t>(text[position])]) ++position;
  return position;
}

}  // namespace conclave::engine
