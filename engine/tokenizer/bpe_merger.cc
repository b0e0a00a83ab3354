// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/bpe_merger.h"

#include <algorithm>

#include "common/check.h"
#include "common/hash.h"

namespace conclave::engine {

bool BpeMerger::AddRule(Symbol left, Symbol right, uint32_t rank, Symbol result) {
  CONCLAVE_CHECK(left >= 0 && right >= 0 && result >= 0 && rank != kNoRank);
  if ((size_ + 1) * 2 > slots_.size()) Grow();
  const uint64_t pair = Pair(left, right);
  const size_t mask = slots_.size() - 1;
  size_t i = Mix64(pair) & mask;
  for (; slots_[i].pair != kEmpty; i = (i + 1) & mask) {
    if (slots_[i].pair == pair) return false;
  }
  slots_[i] = {pair, rank, result};
  ++size_;
  return true;
}

void BpeMerger::Grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(old.empty() ? 1024 : old.size() * 2, Slot{});
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.pair == kEmpty) continue;
    size_t i = Mix64(slot.pair) & mask;
    while (slots_[i].pair != kEmpty) i = (i + 1) & mask;
    slots_[i] = slot;
  }
}

BpeMerger::Slot BpeMerger::Find(Symbol left, Symbol right) const {
  if (slots_.empty()) return {};
  const uint64_t pair = Pair(left, right);
  const size_t mask = slots_.size() - 1;
  for (size_t i = Mix64(pair) & mask;; i = (i + 1) & mask) {
    if (slots_[i].pair == pair) return slots_[i];
    if (slots_[i].pair == kEmpty) return {};
  }
}

void BpeMerger::Merge(std::vector<Symbol>* symbols, Workspace* workspace) const {
  if (symbols->size() < 2) return;
  if (symbols->size() <= kScanSymbolsMax) {
    MergeByScan(symbols, workspace);
  } else {
    MergeByHeap(symbols, workspace);
  }
}

void BpeMerger::MergeByScan(std::vector<Symbol>* symbols, Workspace* w) const {
  std::vector<Symbol>& s = *symbols;
  size_t n = s.size();
  w->ranks.resize(n);
  w->results.resize(n);
  const auto update = [&](size_t i) {  // pair (i, i + 1)
    const Slot rule = Find(s[i], s[i + 1]);
    w->ranks[i] = rule.rank;
    w->results[i] = rule.result;
  };
  for (size_t i = 0; i + 1 < n; ++i) update(i);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (w->ranks[i] < w->ranks[best]) best = i;
    }
    if (w->ranks[best] == kNoRank) break;
    s[best] = w->results[best];
    for (size_t i = best + 1; i + 1 < n; ++i) {
      s[i] = s[i + 1];
      w->ranks[i] = w->ranks[i + 1];
      w->results[i] = w->results[i + 1];
    }
    --n;
    if (best + 1 < n) update(best);
    if (best > 0) update(best - 1);
  }
  s.resize(n);
}

// A doubly linked list over positions; merged-away positions hold kGone. A heap entry is stale when either of its
// symbols is no longer what it was.
void BpeMerger::MergeByHeap(std::vector<Symbol>* symbols, Workspace* w) const {
  constexpr Symbol kGone = -1;
  std::vector<Symbol>& s = *symbols;
  CONCLAVE_CHECK(s.size() < UINT32_MAX);
  const auto n = static_cast<uint32_t>(s.size());
  w->previous.resize(n);
  w->next.resize(n);
  w->heap.clear();
  // std heap functions keep the largest in front: "less" is a worse rank or a place further right.
  const auto worse = [](const Workspace::Candidate& a, const Workspace::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  const auto candidate = [&](uint32_t i) {
    const uint32_t j = w->next[i];
    if (j == n) return false;
    const Slot rule = Find(s[i], s[j]);
    if (rule.rank == kNoRank) return false;
    w->heap.push_back({rule.rank, i, s[i], s[j], rule.result});
    return true;
  };
  for (uint32_t i = 0; i < n; ++i) {
    w->previous[i] = i == 0 ? n : i - 1;
    w->next[i] = i + 1;
  }
  for (uint32_t i = 0; i < n; ++i) candidate(i);
  std::make_heap(w->heap.begin(), w->heap.end(), worse);
  while (!w->heap.empty()) {
    std::pop_heap(w->heap.begin(), w->heap.end(), worse);
    const Workspace::Candidate best = w->heap.back();
    w->heap.pop_back();
    const uint32_t i = best.position;
    const uint32_t j = w->next[i];
    if (s[i] != best.left || j == n || s[j] != best.right) continue;
    s[i] = best.result;
    s[j] = kGone;
    w->next[i] = w->next[j];
    if (w->next[j] != n) w->previous[w->next[j]] = i;
    if (candidate(i)) std::push_heap(w->heap.begin(), w->heap.end(), worse);
    if (w->previous[i] != n && candidate(w->previous[i])) std::push_heap(w->heap.begin(), w->heap.end(), worse);
  }
  s.erase(std::remove(s.begin(), s.end(), kGone), s.end());
}

}  // namespace conclave::engine
