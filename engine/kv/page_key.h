// SPDX-License-Identifier: Apache-2.0
// Names of full KV pages. A page's key stands for everything its contents depend on: the model, the routing policy, the
// cache salt and every token from the start of the sequence to the end of the page.
//
// Keys are a chain of SHA-256 (cut to 128 bits): a caller who could make two prefixes collide would read another
// caller's hidden states, so a fast table hash is not enough.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace conclave::engine {

struct PageKey {
  uint64_t high = 0, low = 0;
  friend bool operator==(const PageKey&, const PageKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const PageKey& key) {
    return H::combine(std::move(h), key.low);
  }
};

// The chain's start. Two sequences share pages only if all three are equal.
PageKey RootPageKey(std::string_view model_revision, uint64_t routing_policy_hash, std::string_view cache_salt);

// The key of the page that follows `parent` and holds exactly `tokens`.
PageKey NextPageKey(const PageKey& parent, std::span<const int32_t> tokens);

// Appends to `keys`, which holds the keys of the first keys->size() full pages of `tokens`, those of the others.
void ExtendPageKeys(const PageKey& root, std::span<const int32_t> tokens, int32_t page_tokens,
                    std::vector<PageKey>* keys);

// A sequence, or its beginning, as the cache names it.
struct Prefix {
  PageKey root;
  std::span<const PageKey> keys;    // of the full pages of `tokens`; there may be more, and fewer cut it short
  std::span<const int32_t> tokens;  // all, from the start
  // What page number `page` follows. REQUIRES: page <= keys.size().
  const PageKey& Parent(size_t page) const { return page == 0 ? root : keys[page - 1]; }
  Prefix First(size_t count) const { return {root, keys, tokens.first(count)}; }
};

// How many leading tokens two lists share.
int32_t CommonTokens(std::span<const int32_t> a, std::span<const int32_t> b);

}  // namespace conclave::engine
