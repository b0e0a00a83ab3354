// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/block_table.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace conclave::engine {
namespace {

int32_t PagesFor(int32_t tokens, int32_t page_tokens) { return (tokens + page_tokens - 1) / page_tokens; }

// Whether another table, now or later, may read what lies in the page from `offset` on.
bool Shared(const PagePool& pool, int32_t page, int32_t offset) {
  return pool.references()[page] > 1 || pool.published_tokens(page) > offset;
}

}  // namespace

BlockTable::~BlockTable() { CONCLAVE_CHECK_MSG(pages_.empty(), "block table destroyed with pages"); }

BlockTable& BlockTable::operator=(BlockTable&& other) noexcept {
  CONCLAVE_CHECK(pages_.empty());
  pages_ = std::exchange(other.pages_, {});
  tokens_ = std::exchange(other.tokens_, 0);
  full_published_ = std::exchange(other.full_published_, 0);
  return *this;
}

void BlockTable::AcquirePrefix(PagePool* pool, const Prefix& prefix) {
  CONCLAVE_CHECK(pages_.empty());
  tokens_ = pool->Acquire(prefix, &pages_);
  full_published_ = tokens_ / pool->page_tokens();
}

int32_t BlockTable::PagesNeeded(const PagePool& pool, int32_t tokens) const {
  if (tokens == 0) return 0;
  const auto held = static_cast<int32_t>(pages_.size());
  const int32_t writing = tokens_ / pool.page_tokens();  // the page of the first new token
  const int32_t copies = writing < held && Shared(pool, pages_[writing], tokens_ % pool.page_tokens()) ? 1 : 0;
  return std::max(0, PagesFor(tokens_ + tokens, pool.page_tokens()) - held) + copies;
}

void BlockTable::Append(PagePool* pool, int32_t tokens, std::vector<PageCopy>* copies) {
  if (tokens == 0) return;
  const auto take = [pool] {
    const std::optional<int32_t> page = pool->Allocate();
    CONCLAVE_CHECK_MSG(page.has_value(), "the plan promised a KV page that is not there");
    return *page;
  };
  const int32_t writing = tokens_ / pool->page_tokens();
  if (writing < static_cast<int32_t>(pages_.size()) && Shared(*pool, pages_[writing], tokens_ % pool->page_tokens())) {
    const int32_t copy = take();
    copies->push_back({pages_[writing], copy});
    pool->Release(pages_[writing]);
    pages_[writing] = copy;
    full_published_ = std::min(full_published_, writing);
  }
  tokens_ += tokens;
  const int32_t held = PagesFor(tokens_, pool->page_tokens());
  while (static_cast<int32_t>(pages_.size()) < held) pages_.push_back(take());
}

void BlockTable::PublishFull(PagePool* pool, const Prefix& sequence) {
  const int32_t full = tokens_ / pool->page_tokens();
  CONCLAVE_CHECK(std::ssize(sequence.keys) >= full);
  for (; full_published_ < full; ++full_published_) {
    int32_t& page = pages_[full_published_];
    if (!pool->full_published(page)) page = pool->PublishFull(page, sequence, full_published_);
  }
}

void BlockTable::PublishTail(PagePool* pool, const Prefix& sequence) const {
  const int32_t full = tokens_ / pool->page_tokens(), rest = tokens_ % pool->page_tokens();
  CONCLAVE_CHECK(full_published_ == full);
  if (rest == 0) return;
  pool->PublishTail(pages_.back(), sequence.Parent(full),
                    sequence.tokens.subspan(static_cast<size_t>(tokens_ - rest), rest));
}

BlockTable BlockTable::Fork(PagePool* pool) const {
  BlockTable fork;
  fork.pages_.reserve(pages_.capacity());
  fork.pages_ = pages_;
  fork.tokens_ = tokens_;
  fork.full_published_ = full_published_;
  for (int32_t page : pages_) pool->Retain(page);
  return fork;
}

void BlockTable::Release(PagePool* pool) {
  for (auto it = pages_.rbegin(); it != pages_.rend(); ++it) pool->Release(*it);
  pages_.clear();
  tokens_ = 0;
  full_published_ = 0;
}

}  // namespace conclave::engine
