// SPDX-License-Identifier: Apache-2.0
// Finds tokens that are taken out of a text whole: the leftmost, and of those that start there the longest.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/tokenizer/vocabulary.h"

namespace conclave::engine {

// Immutable after the last Insert, so thread-safe.
class TokenTrie {
 public:
  // `text` is not empty. Keeps the first token of a text.
  void Insert(std::string_view text, TokenId token);
  bool empty() const { return tokens_.size() == 1; }

  // The longest token that `accept(token, bytes)` at the start of `text`; -1 if none. Looks at no more bytes than the
  // longest token has.
  template <typename Accept>
  TokenId LongestAt(std::string_view text, size_t* bytes, Accept accept) const {
    TokenId best = -1;
    uint32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto it = children_.find(Key(node, text[i]));
      if (it == children_.end()) break;
      node = it->second;
      if (tokens_[node] >= 0 && accept(tokens_[node], i + 1)) {
        best = tokens_[node];
        *bytes = i + 1;
      }
    }
    return best;
  }

  // The first position at or after `position` whose byte begins some token; text.size() if none.
  size_t NextCandidate(std::string_view text, size_t position) const;

 private:
  static uint64_t Key(uint32_t node, char byte) { return uint64_t{node} << 8 | static_cast<uint8_t>(byte); }

  absl::flat_hash_map<uint64_t, uint32_t> children_;
  std::vector<TokenId> tokens_ = {-1};  // per node; node 0 is the root
  std::bitset<256> first_bytes_;
};

}  // namespace conclave::engine
