// SPDX-License-Identifier: Apache-2.0
// Bookkeeping of KV pages: who uses which, and which may be found again. Knows page numbers only, no device memory.
//
// A page is free, referenced (by one or more block tables), or cached: published under a key and without a reference.
// Cached pages are given out when no free one is left, the least recently used first.
//
// Not thread-safe: the step thread's. Nothing is allocated after construction.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/kv/page_key.h"

namespace conclave::engine {

class PagePool {
 public:
  PagePool(int32_t num_pages, int32_t page_tokens);

  int32_t num_pages() const { return static_cast<int32_t>(references_.size()); }
  int32_t page_tokens() const { return page_tokens_; }
  // Pages that Allocate can give: free or cached.
  int32_t available() const { return available_; }
  int32_t num_cached() const { return num_cached_; }
  int32_t num_published() const { return static_cast<int32_t>(by_key_.size()); }
  std::span<const int32_t> references() const { return references_; }  // per page
  std::span<const uint8_t> published() const { return published_; }    // per page: 1 if it can be found
  bool published(int32_t page) const { return published_[page] != 0; }

  // A page with one reference and undefined contents, or nothing if none is available.
  std::optional<int32_t> Allocate();
  // REQUIRES: references()[page] > 0.
  void Retain(int32_t page);
  void Release(int32_t page);

  // How much of a prefix is here: leading keys that are published, and how many of their pages have no reference.
  struct Hit {
    int32_t pages = 0;
    int32_t unreferenced = 0;
  };
  Hit Probe(std::span<const PageKey> keys) const;
  // Appends the pages of the leading published keys, with one reference more each.
  void Acquire(std::span<const PageKey> keys, std::vector<int32_t>* pages);
  // Makes a full page findable. If another page has the key already, the caller's reference moves to that page.
  // Returns the page that the caller now references. REQUIRES: references()[page] > 0 and it is not published.
  int32_t Publish(int32_t page, const PageKey& key);

 private:
  static constexpr int32_t kNone = -1;
  // Cached pages form a doubly linked list, least recently used at the front.
  void ListPushBack(int32_t page);
  void ListRemove(int32_t page);
  void Reference(int32_t page);  // of a published page, referenced or cached

  const int32_t page_tokens_;
  int32_t available_;
  int32_t num_cached_ = 0;
  std::vector<int32_t> references_;
  std::vector<uint8_t> published_;
  std::vector<PageKey> keys_;  // valid where published
  std::vector<int32_t> free_;  // stack
  std::vector<int32_t> next_, previous_;
  int32_t front_ = kNone, back_ = kNone;
  absl::flat_hash_map<PageKey, int32_t> by_key_;
};

}  // namespace conclave::engine
