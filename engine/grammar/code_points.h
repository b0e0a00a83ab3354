// SPDX-License-Identifier: Apache-2.0
// Sets of Unicode characters, and the bytes that UTF-8 writes them in.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace conclave::engine::grammar {

inline constexpr char32_t kCodePointMax = 0x10FFFF;

struct CodePointRange {
  char32_t first, last;
  friend bool operator==(const CodePointRange&, const CodePointRange&) = default;
};

// Unicode scalar values: surrogates are never in it.
class CodePointSet {
 public:
  CodePointSet() = default;
  CodePointSet(std::initializer_list<CodePointRange> ranges);
  static CodePointSet All() { return {{0, kCodePointMax}}; }

  void Add(char32_t first, char32_t last);
  void Add(const CodePointSet& other);
  CodePointSet Complement() const;
  CodePointSet Minus(const CodePointSet& other) const;
  CodePointSet And(const CodePointSet& other) const { return Minus(other.Complement()); }
  bool Contains(char32_t c) const;
  bool empty() const { return ranges().empty(); }
  // Sorted, disjoint, not adjacent.
  const std::vector<CodePointRange>& ranges() const;

 private:
  mutable std::vector<CodePointRange> ranges_;
  mutable bool sorted_ = true;
};

// Strings of `size` bytes, each within its range.
struct Utf8Sequence {
  struct Bytes {
    uint8_t first, last;
  };
  int size;
  std::array<Bytes, 4> bytes;
};

// The encodings of the set, each in exactly one sequence.
std::vector<Utf8Sequence> Utf8Sequences(const CodePointSet& set);

}  // namespace conclave::engine::grammar
