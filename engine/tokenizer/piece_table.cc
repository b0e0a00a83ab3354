// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/piece_table.h"

#include <cstring>
#include <limits>

#include "common/check.h"
#include "common/hash.h"

namespace conclave::engine {

// Eight bytes a step: pieces are short, and most lookups are of one or two steps.
uint64_t PieceTable::Hash(std::string_view key) {
  uint64_t h = key.size();
  while (key.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, key.data(), 8);
    h = Mix64(h ^ word);
    key.remove_prefix(8);
  }
  uint64_t word = 0;
  if (!key.empty()) std::memcpy(&word, key.data(), key.size());
  return Mix64(h ^ word);
}

int32_t PieceTable::Find(std::string_view key) const {
  if (slots_.empty()) return kNone;
  const uint64_t h = Hash(key);
  const size_t mask = slots_.size() - 1;
  for (size_t i = h & mask;; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.value == kNone) return kNone;
    if (slot.hash == static_cast<uint32_t>(h >> 32) && KeyOf(slot) == key) return slot.value;
  }
}

bool PieceTable::Insert(std::string_view key, int32_t value) {
  CONCLAVE_CHECK(value >= 0 && arena_.size() + key.size() <= std::numeric_limits<uint32_t>::max());
  if ((size_ + 1) * 2 > slots_.size()) Grow();
  const uint64_t h = Hash(key);
  const size_t mask = slots_.size() - 1;
  size_t i = h & mask;
  for (; slots_[i].value != kNone; i = (i + 1) & mask) {
    if (slots_[i].hash == static_cast<uint32_t>(h >> 32) && KeyOf(slots_[i]) == key) return false;
  }
  slots_[i] = {static_cast<uint32_t>(h >> 32), value, static_cast<uint32_t>(arena_.size()),
               static_cast<uint32_t>(key.size())};
  arena_.append(key);
  ++size_;
  return true;
}

void PieceTable::Grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(old.empty() ? 1024 : old.size() * 2, Slot{});
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.value == kNone) continue;
    size_t i = Hash(KeyOf(slot)) & mask;
    while (slots_[i].value != kNone) i = (i + 1) & mask;
    slots_[i] = slot;
  }
}

}  // namespace conclave::engine
