// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/vocabulary_trie.h"

#include <algorithm>
#include <iterator>
#include <limits>

namespace conclave::engine::grammar {

VocabularyTrie::VocabularyTrie(std::span<const std::string_view> bytes, std::span<const TokenId> ends) {
  std::copy_if(ends.begin(), ends.end(), std::back_inserter(ends_),
               [&](TokenId token) { return token >= 0 && static_cast<size_t>(token) < bytes.size(); });
  begin_.push_back(0);
  for (size_t token = 0; token < bytes.size(); ++token) {
    text_.insert(text_.end(), bytes[token].begin(), bytes[token].end());
    begin_.push_back(static_cast<uint32_t>(text_.size()));
    const bool usable = !bytes[token].empty() && bytes[token].size() <= std::numeric_limits<uint16_t>::max();
    if (usable) tokens_.push_back(static_cast<TokenId>(token));
  }
  std::sort(tokens_.begin(), tokens_.end(), [&](TokenId a, TokenId b) {
    const std::string_view x = bytes[static_cast<size_t>(a)], y = bytes[static_cast<size_t>(b)];
    return x != y ? x < y : a < b;
  });
  std::vector<int32_t> path;  // the nodes on the way to the last token
  const auto close_to = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back()) after_[static_cast<size_t>(path.back())] = num_nodes();
  };
  std::string_view last;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view text = bytes[static_cast<size_t>(tokens_[i])];
    const auto common =
        static_cast<size_t>(std::mismatch(last.begin(), last.end(), text.begin(), text.end()).first - last.begin());
    close_to(common);
    for (size_t at = common; at < text.size(); ++at) {
      path.push_back(num_nodes());
      byte_.push_back(static_cast<uint8_t>(text[at]));
      depth_.push_back(static_cast<uint16_t>(at + 1));
      after_.push_back(0);
      first_token_.push_back(static_cast<uint32_t>(i));
    }
    depth_max_ = std::max(depth_max_, static_cast<int32_t>(text.size()));
    last = text;
  }
  close_to(0);
  first_token_.push_back(static_cast<uint32_t>(tokens_.size()));
}

std::string_view VocabularyTrie::bytes(TokenId token) const {
  const auto i = static_cast<size_t>(token);
  return std::string_view(text_.data() + begin_[i], begin_[i + 1] - begin_[i]);
}

}  // namespace conclave::engine::grammar
