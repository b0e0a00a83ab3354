// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/code_points.h"

#include <algorithm>

namespace conclave::engine::grammar {
namespace {

constexpr CodePointRange kSurrogates = {0xD800, 0xDFFF};

int EncodedBytes(char32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

std::array<uint8_t, 4> Encode(char32_t c) {
  const auto tail = [c](int shift) { return static_cast<uint8_t>(0x80 | (c >> shift & 0x3F)); };
  switch (EncodedBytes(c)) {
    case 1:
      return {static_cast<uint8_t>(c)};
    case 2:
      return {static_cast<uint8_t>(0xC0 | c >> 6), tail(0)};
    case 3:
      return {static_cast<uint8_t>(0xE0 | c >> 12), tail(6), tail(0)};
    default:
      return {static_cast<uint8_t>(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
  }
}

}  // namespace

CodePointSet::CodePointSet(std::initializer_list<CodePointRange> ranges) {
  for (const CodePointRange& range : ranges) Add(range.first, range.last);
}

void CodePointSet::Add(char32_t first, char32_t last) {
  const auto add = [this](char32_t begin, char32_t end) {
    if (begin <= end) ranges_.push_back({begin, end});
  };
  last = std::min(last, kCodePointMax);
  add(first, std::min<char32_t>(last, kSurrogates.first - 1));
  add(std::max<char32_t>(first, kSurrogates.last + 1), last);
  sorted_ = false;
}

void CodePointSet::Add(const CodePointSet& other) {
  for (const CodePointRange& range : other.ranges()) Add(range.first, range.last);
}

const std::vector<CodePointRange>& CodePointSet::ranges() const {
  if (sorted_) return ranges_;
  sorted_ = true;
  std::sort(ranges_.begin(), ranges_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  size_t kept = 0;
  for (const CodePointRange range : ranges_) {
    if (kept > 0 && range.first <= ranges_[kept - 1].last + 1) {
      ranges_[kept - 1].last = std::max(ranges_[kept - 1].last, range.last);
    } else {
      ranges_[kept++] = range;
    }
  }
  ranges_.resize(kept);
  return ranges_;
}

CodePointSet CodePointSet::Complement() const {
  CodePointSet result;
  char32_t next = 0;
  for (const CodePointRange& range : ranges()) {
    if (range.first > next) result.Add(next, range.first - 1);
    next = range.last + 1;
  }
  if (next <= kCodePointMax) result.Add(next, kCodePointMax);
  return result;
}

CodePointSet CodePointSet::Minus(const CodePointSet& other) const {
  CodePointSet outside = Complement();  // of a minus b: not a, or b
  outside.Add(other);
  return outside.Complement();
}

bool CodePointSet::Contains(char32_t c) const {
  return std::any_of(ranges().begin(), ranges().end(),
                     [c](const CodePointRange& range) { return range.first <= c && c <= range.last; });
}

std::vector<Utf8Sequence> Utf8Sequences(const CodePointSet& set) {
  std::vector<Utf8Sequence> sequences;
  std::vector<CodePointRange> pending(set.ranges().rbegin(), set.ranges().rend());
  while (!pending.empty()) {
    auto [first, last] = pending.back();
    pending.pop_back();
    const auto cut = [&](char32_t end) {  // `end` is the last of the first part
      pending.push_back({end + 1, last});
      pending.push_back({first, end});
    };
    const int size = EncodedBytes(first);
    constexpr char32_t kLastOf[] = {0, 0x7F, 0x7FF, 0xFFFF, kCodePointMax};
    if (last > kLastOf[size]) {
      cut(kLastOf[size]);
      continue;
    }
    // Only whole blocks of 64^i may follow a byte that varies.
    bool whole = true;
    for (int i = 1; i < size && whole; ++i) {
      const char32_t mask = (char32_t{1} << 6 * i) - 1;
      if ((first & ~mask) == (last & ~mask)) break;
      if ((first & mask) != 0) {
        cut(first | mask);
        whole = false;
      } else if ((last & mask) != mask) {
        cut((last & ~mask) - 1);
        whole = false;
      }
    }
    if (!whole) continue;
    Utf8Sequence sequence = {.size = size, .bytes = {}};
    const std::array<uint8_t, 4> low = Encode(first), high = Encode(last);
    for (size_t i = 0; i < static_cast<size_t>(size); ++i) sequence.bytes[i] = {low[i], high[i]};
    sequences.push_back(sequence);
  }
  return sequences;
}

}  // namespace conclave::engine::grammar
