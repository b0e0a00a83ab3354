// SPDX-License-Identifier: Apache-2.0
// Bookkeeping of KV pages: who uses which, and which may be found again. Knows page numbers only, no device memory.
//
// A page is free, referenced (by one or more block tables), or cached: published and without a reference. Cached pages
// are given out when no free one is left, the least recently used first.
//
// Full pages are published under a key and then never written; they are shared by whoever has the same tokens. The
// beginning of any published page, full or not, can be found by its tokens: whoever goes on differently copies it. So
// nothing that is held is computed again, down to single tokens.
//
// Not thread-safe: the step thread's. Only the order of the texts allocates after construction.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/kv/page_key.h"
#include "engine/kv/page_texts.h"

namespace conclave::engine {

class PagePool {
 public:
  PagePool(int32_t num_pages, int32_t page_tokens);

  int32_t num_pages() const { return static_cast<int32_t>(references_.size()); }
  int32_t page_tokens() const { return page_tokens_; }
  // Pages that Allocate can give: free or cached.
  int32_t available() const { return available_; }
  int32_t num_cached() const { return num_cached_; }
  int32_t num_published() const { return texts_.size(); }
  std::span<const int32_t> references() const { return references_; }  // per page
  std::span<const uint8_t> full_published() const { return full_; }    // per page: 1 if published, and full
  bool full_published(int32_t page) const { return full_[page] != 0; }
  int32_t published_tokens(int32_t page) const { return texts_.tokens(page); }
  bool pinned(int32_t page) const { return pins_[page] > 0; }
  int32_t num_pinned() const { return num_pinned_; }

  // A page with one reference and undefined contents, or nothing if none is available.
  std::optional<int32_t> Allocate();
  // REQUIRES: references()[page] > 0.
  void Retain(int32_t page);
  void Release(int32_t page);
  // What is published of the page stays so until as many Unpins, even where others come to hold the same: they may be
  // lost before. REQUIRES: the caller holds a reference until then.
  void Pin(int32_t page);
  void Unpin(int32_t page);

  // How much of a prefix is here: leading tokens, and how many of the pages that hold them have no reference.
  struct Hit {
    int32_t tokens = 0;
    int32_t unreferenced = 0;
  };
  Hit Probe(const Prefix& prefix) const;
  // Appends the pages that hold those tokens, with one reference more each, and returns how many tokens. Of the last
  // page more may be published, or it may be one that another sequence still writes: then its holder must copy it to
  // write, and before any other holder writes.
  int32_t Acquire(const Prefix& prefix, std::vector<int32_t>* pages);
  // Makes page number `number` of a sequence findable, whose tokens are all computed; the rest of them may be unknown.
  // If another page holds the same, the caller's reference moves to that page. Returns the page that the caller now
  // references. REQUIRES: references()[page] > 0, and it is not published full.
  int32_t PublishFull(int32_t page, const Prefix& sequence, int32_t number);
  // The same of the last page, not full, of which `tokens` are computed. Its holder may write on behind them, and tell
  // again. It is not published where another page holds as much.
  void PublishTail(int32_t page, const PageKey& parent, std::span<const int32_t> tokens);

 private:
  static constexpr int32_t kNone = -1;
  // The longest match of a prefix: whole pages by their keys, then part of one.
  template <typename OnPage>
  int32_t Walk(const Prefix& prefix, const OnPage& on_page) const;
  // Makes room among the texts for one that begins as another does: what it makes superfluous is forgotten.
  void Supersede(const PageTexts::Match& match);
  // Cached pages form a doubly linked list, least recently used at the front.
  void ListPushBack(int32_t page);
  void ListRemove(int32_t page);
  void Reference(int32_t page);  // of a published page, referenced or cached

  const int32_t page_tokens_;
  int32_t available_;
  int32_t num_cached_ = 0;
  std::vector<int32_t> references_;
  std::vector<uint8_t> full_;
  std::vector<int32_t> pins_;
  int32_t num_pinned_ = 0;
  std::vector<PageKey> keys_;  // valid where full_
  std::vector<int32_t> free_;  // stack
  std::vector<int32_t> next_, previous_;
  int32_t front_ = kNone, back_ = kNone;
  absl::flat_hash_map<PageKey, int32_t> by_key_;  // full pages
  PageTexts texts_;                               // all published pages
};

}  // namespace conclave::engine
