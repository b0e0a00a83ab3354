// SPDX-License-Identifier: Apache-2.0
// A hash table from byte strings to small integers, built once and read often.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::engine {

// Open addressing over strings that it copies into one arena. Lookups never allocate and are thread-safe once
// insertion has ended; only Insert adds keys, so text that is looked up cannot lengthen the probes.
class PieceTable {
 public:
  static constexpr int32_t kNone = -1;

  // Keeps the first value of a key; returns whether it was new. `value` >= 0.
  bool Insert(std::string_view key, int32_t value);
  int32_t Find(std::string_view key) const;  // kNone if absent
  size_t size() const { return size_; }

 private:
  struct Slot {
    uint32_t hash;
    int32_t value = kNone;
    uint32_t begin = 0, bytes = 0;  // of the key in the arena
  };
  static uint64_t Hash(std::string_view key);
  std::string_view KeyOf(const Slot& slot) const { return {arena_.data() + slot.begin, slot.bytes}; }
  void Grow();

  std::string arena_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t size_ = 0;
};

}  // namespace conclave::engine
