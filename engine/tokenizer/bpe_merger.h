// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding's one algorithm: while some two neighbours may merge, merge the pair of the lowest rank, the
// leftmost of equal rank (Sennrich et al. 2016). Byte-level BPE and SentencePiece BPE differ in where symbols and ranks
// come from, which is the caller's business.
#pragma once

#include <cstdint>
#include <vector>

namespace conclave::engine {

class BpeMerger {
 public:
  using Symbol = int32_t;  // >= 0

  // left right -> result. Keeps the first rule of a pair; returns whether it was new.
  bool AddRule(Symbol left, Symbol right, uint32_t rank, Symbol result);
  size_t rules() const { return size_; }

  // Scratch memory of one thread, reused over calls.
  struct Workspace {
    struct Candidate {
      uint32_t rank, position;
      Symbol left, right;  // as they were; the candidate is stale if they have changed
      Symbol result;
    };
    std::vector<uint32_t> ranks, previous, next;
    std::vector<Symbol> results;
    std::vector<Candidate> heap;
  };

  // Merges `symbols` in place. O(n log n), no recursion. Thread-safe once the rules are in.
  void Merge(std::vector<Symbol>* symbols, Workspace* workspace) const;

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  // Up to here a scan over all pairs per merge beats a heap.
  static constexpr size_t kScanSymbolsMax = 48;

  struct Slot {
    uint64_t pair = kEmpty;
    uint32_t rank = kNoRank;
    Symbol result = 0;
  };
  static constexpr uint64_t kEmpty = UINT64_MAX;

  static uint64_t Pair(Symbol left, Symbol right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  Slot Find(Symbol left, Symbol right) const;
  void Grow();
  void MergeByScan(std::vector<Symbol>* symbols, Workspace* workspace) const;
  void MergeByHeap(std::vector<Symbol>* symbols, Workspace* workspace) const;

  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  size_t size_ = 0;
};

}  // namespace conclave::engine
