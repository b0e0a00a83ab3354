// SPDX-License-Identifier: Apache-2.0
// One sequence's pages, in order: token i lives in page pages()[i / B] at offset i % B.
//
// Tables share pages after Fork and through the pool's published pages. A page that another table may read is never
// written: Append replaces it by a copy first (copy-on-write). Only the last, partly filled page can be concerned. What
// is published of a page that only this table holds stays as it is: the table writes behind it.
//
// Not thread-safe. A table that holds pages must be Released to its pool before it is destroyed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv/page_pool.h"

namespace conclave::engine {

// Copy all of page `from` to page `to` before the step writes any page; copies are done in the order given.
struct PageCopy {
  int32_t from, to;
};

class BlockTable {
 public:
  BlockTable() = default;
  ~BlockTable();
  BlockTable(BlockTable&& other) noexcept { *this = std::move(other); }
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;
  BlockTable& operator=(BlockTable&& other) noexcept;  // REQUIRES: this one is empty

  std::span<const int32_t> pages() const { return pages_; }
  int32_t tokens() const { return tokens_; }
  // page * B + offset, where token `position` is stored. REQUIRES: position < tokens().
  int32_t Slot(const PagePool& pool, int32_t position) const {
    return pages_[position / pool.page_tokens()] * pool.page_tokens() + position % pool.page_tokens();
  }

  // Avoids allocation later: room for `pages` page numbers.
  void Reserve(int32_t pages) { pages_.reserve(pages); }

  // Takes the pages of the longest published part of `prefix` and stands for that. The last page may be one that
  // another table writes: Append to this table before that one. REQUIRES: the table is empty.
  void AcquirePrefix(PagePool* pool, const Prefix& prefix);
  // New pages that Append(tokens) would take.
  int32_t PagesNeeded(const PagePool& pool, int32_t tokens) const;
  // Makes room for `tokens` more, adding to `copies` what must be copied. REQUIRES: PagesNeeded are available.
  void Append(PagePool* pool, int32_t tokens, std::vector<PageCopy>* copies);
  // Publishes the full pages that are not yet published. Call when their contents are computed. `sequence`: at least
  // the table's tokens.
  void PublishFull(PagePool* pool, const Prefix& sequence);
  // After PublishFull: and what there is of the last page.
  void PublishTail(PagePool* pool, const Prefix& sequence) const;
  // A table over the same pages.
  BlockTable Fork(PagePool* pool) const;
  // Gives all pages back; the last first, so that the cache loses the ends of prefixes before their beginnings.
  void Release(PagePool* pool);

 private:
  std::vector<int32_t> pages_;
  int32_t tokens_ = 0;
  int32_t full_published_ = 0;  // leading pages known to be published
};

}  // namespace conclave::engine
