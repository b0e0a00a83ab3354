// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/page_pool.h"

#include <algorithm>

#include "common/check.h"

namespace conclave::engine {

PagePool::PagePool(int32_t num_pages, int32_t page_tokens)
    : page_tokens_(page_tokens),
      available_(num_pages),
      references_(num_pages, 0),
      full_(num_pages, 0),
      pins_(num_pages, 0),
      keys_(num_pages),
      next_(num_pages, kNone),
      previous_(num_pages, kNone),
      texts_(num_pages, page_tokens) {
  CONCLAVE_CHECK(num_pages > 0 && page_tokens > 0);
  by_key_.reserve(num_pages);
  free_.reserve(num_pages);
  for (int32_t page = num_pages - 1; page >= 0; --page) free_.push_back(page);
}

void PagePool::ListPushBack(int32_t page) {
  previous_[page] = back_;
  next_[page] = kNone;
  (back_ == kNone ? front_ : next_[back_]) = page;
  back_ = page;
  ++num_cached_;
}

void PagePool::ListRemove(int32_t page) {
  (previous_[page] == kNone ? front_ : next_[previous_[page]]) = next_[page];
  (next_[page] == kNone ? back_ : previous_[next_[page]]) = previous_[page];
  --num_cached_;
}

std::optional<int32_t> PagePool::Allocate() {
  int32_t page = kNone;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else if (front_ != kNone) {
    page = front_;
    ListRemove(page);
    texts_.Erase(page);
    if (full_[page] != 0) by_key_.erase(keys_[page]);
    full_[page] = 0;
  } else {
    return std::nullopt;
  }
  CONCLAVE_CHECK(references_[page] == 0);
  references_[page] = 1;
  --available_;
  return page;
}

void PagePool::Retain(int32_t page) {
  CONCLAVE_CHECK(references_[page] > 0);
  ++references_[page];
}

void PagePool::Release(int32_t page) {
  CONCLAVE_CHECK(references_[page] > 0);
  if (--references_[page] > 0) return;
  ++available_;
  if (texts_.tokens(page) > 0) {
    ListPushBack(page);
  } else {
    free_.push_back(page);
  }
}

void PagePool::Pin(int32_t page) {
  CONCLAVE_CHECK(references_[page] > 0);
  if (pins_[page]++ == 0) ++num_pinned_;
}

void PagePool::Unpin(int32_t page) {
  CONCLAVE_CHECK(references_[page] > 0 && pins_[page] > 0);
  if (--pins_[page] == 0) --num_pinned_;
}

void PagePool::Reference(int32_t page) {
  if (references_[page] == 0) {
    ListRemove(page);
    --available_;
  }
  ++references_[page];
}

template <typename OnPage>
int32_t PagePool::Walk(const Prefix& prefix, const OnPage& on_page) const {
  const size_t full = std::min(prefix.keys.size(), prefix.tokens.size() / page_tokens_);
  size_t pages = 0;
  for (; pages < full; ++pages) {
    const auto it = by_key_.find(prefix.keys[pages]);
    if (it == by_key_.end()) break;
    on_page(it->second);
  }
  const size_t tokens = pages * page_tokens_;
  const auto rest = prefix.tokens.subspan(tokens, std::min<size_t>(page_tokens_, prefix.tokens.size() - tokens));
  const PageTexts::Match match = texts_.Longest(prefix.Parent(pages), rest);
  if (match.tokens > 0) on_page(match.page);
  return static_cast<int32_t>(tokens) + match.tokens;
}

PagePool::Hit PagePool::Probe(const Prefix& prefix) const {
  Hit hit;
  hit.tokens = Walk(prefix, [&](int32_t page) { hit.unreferenced += references_[page] == 0 ? 1 : 0; });
  return hit;
}

int32_t PagePool::Acquire(const Prefix& prefix, std::vector<int32_t>* pages) {
  return Walk(prefix, [&](int32_t page) {
    Reference(page);
    pages->push_back(page);
  });
}

void PagePool::Supersede(const PageTexts::Match& match) {
  if (match.tokens == 0 || match.tokens < texts_.tokens(match.page) || pinned(match.page)) return;
  texts_.Erase(match.page);
  if (references_[match.page] > 0) return;
  ListRemove(match.page);
  free_.push_back(match.page);
}

int32_t PagePool::PublishFull(int32_t page, const Prefix& sequence, int32_t number) {
  CONCLAVE_CHECK(references_[page] > 0 && full_[page] == 0);
  const PageKey& key = sequence.keys[number];
  const auto [it, inserted] = by_key_.emplace(key, page);
  if (inserted || !pinned(page)) texts_.Erase(page);
  if (!inserted) {
    Reference(it->second);
    Release(page);
    return it->second;
  }
  const auto tokens = sequence.tokens.subspan(static_cast<size_t>(number) * page_tokens_, page_tokens_);
  Supersede(texts_.Longest(sequence.Parent(number), tokens));
  texts_.Insert(page, sequence.Parent(number), tokens);
  full_[page] = 1;
  keys_[page] = key;
  return page;
}

void PagePool::PublishTail(int32_t page, const PageKey& parent, std::span<const int32_t> tokens) {
  CONCLAVE_CHECK(references_[page] > 0 && full_[page] == 0 && std::ssize(tokens) < page_tokens_);
  const PageTexts::Match held = texts_.Longest(parent, tokens);
  if (held.tokens == std::ssize(tokens)) {
    if (held.page != page && !pinned(page)) texts_.Erase(page);
    return;
  }
  texts_.Erase(page);  // pinned or not: what it holds by now begins with that
  Supersede(texts_.Longest(parent, tokens));
  texts_.Insert(page, parent, tokens);
}

}  // namespace conclave::engine
