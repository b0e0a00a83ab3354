// SPDX-License-Identifier: Apache-2.0
// Pages by what they hold, to find the one that begins as a text goes on: by their parents' keys, then by their tokens.
// No two are the same under one parent. Whoever shares most with a text is its neighbour in the order.
//
// Not thread-safe. Nodes of the order are allocated as pages come, a few dozen bytes each.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/btree_set.h"
#include "engine/kv/page_key.h"

namespace conclave::engine {

class PageTexts {
 public:
  static constexpr int32_t kNone = -1;

  PageTexts(int32_t num_pages, int32_t page_tokens);

  int32_t size() const { return static_cast<int32_t>(order_.size()); }
  // Tokens that the page is known to hold; 0: not known.
  int32_t tokens(int32_t page) const { return counts_[page]; }

  // The page that shares most leading tokens, at least one, with `tokens` after `parent`.
  struct Match {
    int32_t page = kNone;
    int32_t tokens = 0;
  };
  Match Longest(const PageKey& parent, std::span<const int32_t> tokens) const;

  // REQUIRES: the page is not known, and no known one holds just `tokens`.
  void Insert(int32_t page, const PageKey& parent, std::span<const int32_t> tokens);
  void Erase(int32_t page);  // if it is known

 private:
  struct Text {
    PageKey parent;
    std::span<const int32_t> tokens;
    int32_t page;
  };
  struct Before {
    bool operator()(const Text& a, const Text& b) const;
  };
  Text TextOf(int32_t page) const;

  const int32_t page_tokens_;
  std::vector<PageKey> parents_;  // valid where known
  std::vector<int32_t> tokens_;   // [page, B]
  std::vector<int32_t> counts_;
  absl::btree_set<Text, Before> order_;
};

}  // namespace conclave::engine
