// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/page_pool.h"

#include "common/check.h"

namespace conclave::engine {

PagePool::PagePool(int32_t num_pages, int32_t page_tokens)
    : page_tokens_(page_tokens),
      available_(num_pages),
      references_(num_pages, 0),
      published_(num_pages, 0),
      keys_(num_pages),
      next_(num_pages, kNone),
      previous_(num_pages, kNone) {
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
    by_key_.erase(keys_[page]);
    published_[page] = 0;
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
  if (published_[page] != 0) {
    ListPushBack(page);
  } else {
    free_.push_back(page);
  }
}

void PagePool::Reference(int32_t page) {
  if (references_[page] == 0) {
    ListRemove(page);
    --available_;
  }
  ++references_[page];
}

PagePool::Hit PagePool::Probe(std::span<const PageKey> keys) const {
  Hit hit;
  for (const PageKey& key : keys) {
    const auto it = by_key_.find(key);
    if (it == by_key_.end()) break;
    ++hit.pages;
    if (references_[it->second] == 0) ++hit.unreferenced;
  }
  return hit;
}

void PagePool::Acquire(std::span<const PageKey> keys, std::vector<int32_t>* pages) {
  for (const PageKey& key : keys) {
    const auto it = by_key_.find(key);
    if (it == by_key_.end()) break;
    Reference(it->second);
    pages->push_back(it->second);
  }
}

int32_t PagePool::Publish(int32_t page, const PageKey& key) {
  CONCLAVE_CHECK(references_[page] > 0 && published_[page] == 0);
  const auto [it, inserted] = by_key_.emplace(key, page);
  if (inserted) {
    published_[page] = 1;
    keys_[page] = key;
    return page;
  }
  Reference(it->second);
  Release(page);
  return it->second;
}

}  // namespace conclave::engine
