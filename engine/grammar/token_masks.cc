// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/token_masks.h"

#include <algorithm>

namespace conclave::engine::grammar {

// Calls each(node, state) for every node of the tree that the automaton can follow.
template <typename Each>
bool TokenMasks::Walk(int32_t begin, int32_t end, int32_t depth, StateId from, Each each) {
  std::vector<StateId> path(static_cast<size_t>(trie_->depth_max() - depth) + 1);
  path[0] = from;
  for (int32_t node = begin; node < end;) {
    const auto level = static_cast<size_t>(trie_->depth(node) - depth);
    const StateId next = table_->Step(path[level - 1], trie_->byte(node));
    if (next == kDead) {
      node = trie_->after(node);
      continue;
    }
    if (next == kTooMany) return false;
    path[level] = next;
    each(node, next);
    ++node;
  }
  return true;
}

void TokenMasks::Set(int32_t node, std::vector<uint64_t>* words) const {
  for (const TokenId token : trie_->tokens(node)) {
    (*words)[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
  }
}

const TokenMasks::Local* TokenMasks::LocalOf(std::span<const StateTable::Item> items) {
  const StateId state = table_->Local(items);
  if (state < 0) return nullptr;
  const auto it = locals_.find(state);
  if (it != locals_.end()) return it->second.get();
  auto local = std::make_unique<Local>();
  local->deepest = table_->at(state).deepest;
  const bool walked = Walk(0, trie_->num_nodes(), 0, state, [&](int32_t node, StateId next) {
    const std::span<const TokenId> tokens = trie_->tokens(node);
    local->tokens.insert(local->tokens.end(), tokens.begin(), tokens.end());
    if (table_->at(next).returns) local->returned.push_back(node);
    local->deepest = std::max(local->deepest, table_->at(next).deepest);
  });
  if (!walked) return nullptr;
  if (local->tokens.size() > trie_->mask_words()) {
    local->words.resize(trie_->mask_words());
    for (const TokenId token : local->tokens) {
      local->words[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
    }
    local->tokens = {};
  }
  local->tokens.shrink_to_fit();
  local->returned.shrink_to_fit();
  bytes_ += sizeof(Local) + 8 * local->words.size() + 4 * local->tokens.size() + 4 * local->returned.size();
  return locals_.emplace(state, std::move(local)).first->second.get();
}

// Items of one stack.
bool TokenMasks::AddGroup(std::span<const StateTable::Item> items, std::vector<uint64_t>* words) {
  const StackId stack = items.front().stack;
  const Local* local = LocalOf(items);
  if (local == nullptr) return false;
  if (table_->frame(stack).depth + local->deepest > kCallDepthMax) {
    // So deep that calls which the local walk made may not be allowed here.
    const StateId only = table_->Only(items);
    return only >= 0 && Walk(0, trie_->num_nodes(), 0, only, [&](int32_t node, StateId /*next*/) { Set(node, words); });
  }
  for (size_t i = 0; i < local->words.size(); ++i) (*words)[i] |= local->words[i];
  for (const TokenId token : local->tokens) {
    (*words)[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
  }
  if (stack == kEmptyStack || local->returned.empty()) return true;
  const StateId behind = table_->Returned(stack);
  if (behind == kDead) return true;
  if (behind == kTooMany) return false;
  for (const int32_t node : local->returned) {
    const bool walked = Walk(node + 1, trie_->after(node), trie_->depth(node), behind,
                             [&](int32_t below, StateId /*next*/) { Set(below, words); });
    if (!walked) return false;
  }
  return true;
}

TokenMask TokenMasks::Of(StateId state) {
  const auto it = masks_.find(state);
  if (it != masks_.end()) return it->second;
  auto words = std::make_shared<std::vector<uint64_t>>(trie_->mask_words());
  // A copy: the table grows.
  const std::span<const StateTable::Item> all = table_->items(state);
  const std::vector<StateTable::Item> items(all.begin(), all.end());
  for (size_t begin = 0; begin < items.size();) {
    size_t end = begin + 1;
    while (end < items.size() && items[end].stack == items[begin].stack) ++end;
    if (!AddGroup(std::span(items).subspan(begin, end - begin), words.get())) return nullptr;
    begin = end;
  }
  if (table_->at(state).accepts) {
    for (const TokenId token : trie_->ends()) {
      (*words)[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
    }
  }
  bytes_ += 8 * words->size();
  return masks_.emplace(state, std::move(words)).first->second;
}

}  // namespace conclave::engine::grammar
