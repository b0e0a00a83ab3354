// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/state_table.h"

#include <algorithm>

#include "common/hash.h"

namespace conclave::engine::grammar {
namespace {

uint64_t Pair(int32_t a, int32_t b) { return uint64_t{static_cast<uint32_t>(a)} << 32 | static_cast<uint32_t>(b); }

}  // namespace

StateTable::StateTable(std::shared_ptr<const Automaton> automaton)
    : automaton_(std::move(automaton)), classes_(static_cast<size_t>(automaton_->byte_classes)) {
  frames_.resize(2, {.node = -1, .below = -1, .depth = 0, .deepest = 0});
  Visit(automaton_->rule_start[Automaton::kStartRule], kEmptyStack);
  start_ = Close();
}

void StateTable::Visit(int32_t node, StackId stack) {
  if (visited_.insert(Pair(node, stack)).second) pending_.push_back({stack, node});
}

// -1: too deep to be completed.
StackId StateTable::Push(int32_t node, StackId below) {
  const auto [it, added] = frame_ids_.try_emplace(Pair(node, below), static_cast<StackId>(frames_.size()));
  if (!added) return it->second;
  const Frame& under = frame(below);
  const int32_t deepest = std::max(under.deepest, under.depth + automaton_->depth[static_cast<size_t>(node)]);
  if (deepest > kCallDepthMax || under.depth >= kCallDepthMax) {
    it->second = -1;
    return -1;
  }
  frames_.push_back({.node = node, .below = below, .depth = under.depth + 1, .deepest = deepest});
  return it->second;
}

StateId StateTable::Close() {
  bool accepts = false, returns = false, too_many = false;
  found_.clear();
  while (!pending_.empty()) {
    const Item item = pending_.back();
    pending_.pop_back();
    const auto node = static_cast<size_t>(item.node);
    if (automaton_->ends[node] != 0) {
      if (item.stack == kEmptyStack) {
        accepts = true;
      } else if (item.stack == kUnknownStack) {
        returns = true;
      } else {
        Visit(frame(item.stack).node, frame(item.stack).below);
      }
    }
    bool reads = false;
    for (const Edge& edge : automaton_->EdgesOf(item.node)) {
      switch (edge.kind) {
        case Edge::Kind::kBytes:
          reads = true;
          break;
        case Edge::Kind::kEmpty:
          Visit(edge.target, item.stack);
          break;
        case Edge::Kind::kCall: {
          // What ends with a call needs no way back: lists that nest at their end nest not at all.
          const bool last = automaton_->only_ends[static_cast<size_t>(edge.target)] != 0;
          const StackId stack = last ? item.stack : Push(edge.target, item.stack);
          if (stack < 0) break;
          const int32_t start = automaton_->rule_start[static_cast<size_t>(edge.rule)];
          if (frame(stack).depth + automaton_->depth[static_cast<size_t>(start)] <= kCallDepthMax) Visit(start, stack);
          break;
        }
      }
    }
    if (reads) found_.push_back(item);
    too_many = too_many || visited_.size() > kStateItemsMax || frames_.size() > kTableItemsMax;
    if (too_many) pending_.clear();
  }
  visited_.clear();
  if (too_many) return kTooMany;
  if (found_.empty() && !accepts && !returns) return kDead;
  std::sort(found_.begin(), found_.end());
  return Intern(accepts, returns);
}

StateId StateTable::Intern(bool accepts, bool returns) {
  uint64_t hash = (accepts ? 1 : 0) + (returns ? 2 : 0);
  for (const Item& item : found_) hash = Mix64(hash ^ Pair(item.node, item.stack));
  std::vector<StateId>& same_hash = by_hash_[hash];
  for (const StateId id : same_hash) {
    const std::span<const Item> known = items(id);
    if (at(id).accepts == accepts && at(id).returns == returns &&
        std::equal(known.begin(), known.end(), found_.begin(), found_.end())) {
      return id;
    }
  }
  if (items_.size() + found_.size() > kTableItemsMax || next_.size() + classes_ > kTableCellsMax) return kTooMany;
  const auto id = static_cast<StateId>(states_.size());
  int32_t deepest = 0;
  for (const Item& item : found_) {
    const Frame& top = frame(item.stack);
    deepest = std::max({deepest, top.deepest, top.depth + automaton_->depth[static_cast<size_t>(item.node)]});
  }
  states_.push_back({items_.size(), items_.size() + found_.size(), accepts, returns, deepest});
  items_.insert(items_.end(), found_.begin(), found_.end());
  next_.resize(next_.size() + classes_, kUnknown);
  same_hash.push_back(id);
  return id;
}

StateId StateTable::FindNext(StateId state, uint8_t byte) {
  for (size_t i = at(state).begin; i < at(state).end; ++i) {
    const Item item = items_[i];
    for (const Edge& edge : automaton_->EdgesOf(item.node)) {
      if (edge.kind == Edge::Kind::kBytes && edge.first <= byte && byte <= edge.last) Visit(edge.target, item.stack);
    }
  }
  const StateId next = Close();
  // A state that did not fit may fit into a new table.
  if (next != kTooMany) next_[static_cast<size_t>(state) * classes_ + automaton_->byte_class[byte]] = next;
  return next;
}

StateId StateTable::Local(std::span<const Item> items) {
  found_.clear();
  for (const Item& item : items) found_.push_back({kUnknownStack, item.node});
  return Intern(false, false);
}

StateId StateTable::Only(std::span<const Item> items) {
  found_.assign(items.begin(), items.end());
  return Intern(false, false);
}

StateId StateTable::Returned(StackId stack) {
  Visit(frame(stack).node, frame(stack).below);
  return Close();
}

StateId StateTable::CopyFrom(const StateTable& other, StateId state) {
  std::vector<Item> copied;
  std::vector<StackId> frames;
  for (const Item& item : other.items(state)) {
    frames.clear();
    StackId stack = item.stack;
    for (; stack > kUnknownStack; stack = other.frame(stack).below) frames.push_back(stack);
    for (auto it = frames.rbegin(); it != frames.rend(); ++it) stack = Push(other.frame(*it).node, stack);
    copied.push_back({stack, item.node});
  }
  std::sort(copied.begin(), copied.end());
  found_ = std::move(copied);
  return Intern(other.at(state).accepts, other.at(state).returns);
}

}  // namespace conclave::engine::grammar
