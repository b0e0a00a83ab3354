// SPDX-License-Identifier: Apache-2.0
// The bytes of a vocabulary's tokens as one tree, so that what tokens have in common is looked at once.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/tokenizer/vocabulary.h"

namespace conclave::engine::grammar {

// Immutable, so thread-safe. Nodes are numbered in the order of a walk that visits a node before what is below it.
class VocabularyTrie {
 public:
  // `bytes[token]` is what a token adds to a text; empty: nothing, so a constraint never allows it. `ends`: tokens that
  // end a text.
  VocabularyTrie(std::span<const std::string_view> bytes, std::span<const TokenId> ends);

  int32_t num_nodes() const { return static_cast<int32_t>(byte_.size()); }
  uint8_t byte(int32_t node) const { return byte_[static_cast<size_t>(node)]; }
  int32_t depth(int32_t node) const { return depth_[static_cast<size_t>(node)]; }  // from 1
  int32_t after(int32_t node) const { return after_[static_cast<size_t>(node)]; }  // first node not below it
  int32_t depth_max() const { return depth_max_; }
  // Tokens that are spelled by the way to the node.
  std::span<const TokenId> tokens(int32_t node) const {
    const auto i = static_cast<size_t>(node);
    return std::span(tokens_).subspan(first_token_[i], first_token_[i + 1] - first_token_[i]);
  }
  std::span<const TokenId> ends() const { return ends_; }
  std::string_view bytes(TokenId token) const;
  int32_t vocabulary() const { return static_cast<int32_t>(begin_.size()) - 1; }
  size_t mask_words() const { return (begin_.size() - 1 + 63) / 64; }

 private:
  std::vector<uint8_t> byte_;
  std::vector<uint16_t> depth_;
  std::vector<int32_t> after_;
  std::vector<uint32_t> first_token_;  // [nodes + 1]
  std::vector<TokenId> tokens_;
  std::vector<TokenId> ends_;
  std::vector<char> text_;       // all tokens' bytes
  std::vector<uint32_t> begin_;  // [vocabulary + 1]
  int32_t depth_max_ = 0;
};

}  // namespace conclave::engine::grammar
