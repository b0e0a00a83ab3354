// SPDX-License-Identifier: Apache-2.0
#include "engine/quant/grouped_rows.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/check.h"
#include "engine/quant/group_blocks.h"

namespace conclave::engine::quant {
namespace {

// Rows that are put together at once: they share words in two of the layouts.
constexpr int64_t kRowsAtOnce = 16;
constexpr int64_t kBlockElementsMax = 128;

uint32_t Word(std::span<const std::byte> words, int64_t index) {
  uint32_t v;
  std::memcpy(&v, words.data() + index * static_cast<int64_t>(sizeof(v)), sizeof(v));
  return v;
}

// Where column 8 w + j of AWQ's lies in its word.
constexpr std::array<int, 8> kAwqPlace = {0, 4, 1, 5, 2, 6, 3, 7};

// Field `i` of a word of fields of kBits.
template <int kBits>
int Field(uint32_t word, int64_t i) {
  return static_cast<int>(word >> (kBits * i)) & ((1 << kBits) - 1);
}

template <CodeLayout kLayout, int kBits>
int Code(const GroupedCodes& s, int64_t row, int64_t column) {
  constexpr int64_t p = 32 / kBits;
  if constexpr (kLayout == CodeLayout::kAwq) {
    return Field<kBits>(Word(s.codes, column * (s.rows / p) + row / p), kAwqPlace[static_cast<size_t>(row % p)]);
  } else if constexpr (kLayout == CodeLayout::kGptq) {
    return Field<kBits>(Word(s.codes, column / p * s.rows + row), column % p);
  } else {
    return Field<kBits>(Word(s.codes, row * (s.columns / p) + column / p), column % p);
  }
}

template <CodeLayout kLayout, int kBits>
int Zero(const GroupedCodes& s, int64_t row, int64_t group) {
  constexpr int64_t p = 32 / kBits;
  if (s.zeros.empty()) return 1 << (kBits - 1);
  const int64_t word = kLayout == CodeLayout::kPacked ? row / p * s.groups + group : group * (s.rows / p) + row / p;
  const int64_t field = kLayout == CodeLayout::kAwq ? kAwqPlace[static_cast<size_t>(row % p)] : row % p;
  return s.zero_offset + Field<kBits>(Word(s.zeros, word), field);
}

float Scale(const GroupedCodes& s, int64_t row, int64_t group) {
  const int64_t index = s.layout == CodeLayout::kPacked ? row * s.groups + group : group * s.rows + row;
  uint16_t bits;
  std::memcpy(&bits, s.scales.data() + index * static_cast<int64_t>(sizeof(bits)), sizeof(bits));
  return s.scale_format == DType::kF16 ? HalfToFloat(bits) : Bfloat16ToFloat(bits);
}

// codes [elements] of a block -> its bytes behind the scale.
template <int kBits>
void PutCodes(const uint8_t* codes, int64_t elements, std::byte* out) {
  if (kBits == 8) {
    std::memcpy(out, codes, static_cast<size_t>(elements));
    return;
  }
  for (int64_t e = 0; e < elements; e += 32) {
    for (int64_t j = 0; j < 16; ++j) *out++ = static_cast<std::byte>(codes[e + j] | (codes[e + j + 16] << 4));
  }
}

template <CodeLayout kLayout, int kBits>
void ReadGroups(const GroupedCodes& s, DType format, int64_t first, int64_t count, std::byte* out) {
  const int64_t elements = Traits(format).block_elements, block_bytes = Traits(format).block_bytes;
  const int64_t row_bytes = RowBytes(format, s.columns);
  uint8_t codes[kRowsAtOnce][kBlockElementsMax];
  for (int64_t done = 0; done < count; done += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, count - done), row = first + done;
    for (size_t b = 0; b < s.block_groups.size(); ++b) {
      const int64_t begin = static_cast<int64_t>(b) * elements;
      for (int64_t e = 0; e < elements; ++e) {
        const int64_t column = s.order.empty() ? begin + e : s.order[static_cast<size_t>(begin + e)];
        for (int64_t r = 0; r < rows; ++r) {
          codes[r][e] = static_cast<uint8_t>(Code<kLayout, kBits>(s, row + r, column));
        }
      }
      const int32_t group = s.block_groups[b];
      for (int64_t r = 0; r < rows; ++r) {
        std::byte* block = out + (done + r) * row_bytes + static_cast<int64_t>(b) * block_bytes;
        const GroupScale scale = MakeGroupScale(Scale(s, row + r, group), Zero<kLayout, kBits>(s, row + r, group));
        std::memcpy(block, &scale, sizeof(scale));
        PutCodes<kBits>(codes[r], elements, block + sizeof(scale));
      }
    }
  }
}

}  // namespace

std::optional<DType> GroupFormat(int32_t bits, std::span<const int64_t> runs) {
  constexpr DType kFour[] = {DType::kInt4_G128, DType::kInt4_G64, DType::kInt4_G32};
  constexpr DType kEight[] = {DType::kInt8_G128, DType::kInt8_G32};
  const std::span<const DType> formats = bits == 4 ? std::span<const DType>(kFour) : kEight;
  for (const DType format : formats) {
    const auto whole = [format](int64_t run) { return run % Traits(format).block_elements == 0; };
    if (std::all_of(runs.begin(), runs.end(), whole)) return format;
  }
  return std::nullopt;
}

void GroupedRows::Read(int64_t first, int64_t count, std::byte* out) const {
  const bool four = source_.bits == 4;
  CONCLAVE_CHECK(four || (source_.bits == 8 && source_.layout != CodeLayout::kAwq));
  switch (source_.layout) {
    case CodeLayout::kAwq:
      return ReadGroups<CodeLayout::kAwq, 4>(source_, format_, first, count, out);
    case CodeLayout::kGptq:
      return four ? ReadGroups<CodeLayout::kGptq, 4>(source_, format_, first, count, out)
                  : ReadGroups<CodeLayout::kGptq, 8>(source_, format_, first, count, out);
    case CodeLayout::kPacked:
      return four ? ReadGroups<CodeLayout::kPacked, 4>(source_, format_, first, count, out)
                  : ReadGroups<CodeLayout::kPacked, 8>(source_, format_, first, count, out);
  }
}

std::optional<int64_t> FindFp8Nan(std::span<const std::byte> codes) {
  constexpr size_t kChunk = 4096;  // of a fixed size, so that the loop becomes vector instructions
  size_t begin = 0;
  for (; begin + kChunk <= codes.size(); begin += kChunk) {
    uint8_t any = 0;
    for (size_t i = 0; i < kChunk; ++i) any |= IsFp8Nan(static_cast<uint8_t>(codes[begin + i])) ? 1 : 0;
    if (any != 0) break;
  }
  for (size_t i = begin; i < codes.size(); ++i) {
    if (IsFp8Nan(static_cast<uint8_t>(codes[i]))) return static_cast<int64_t>(i);
  }
  return std::nullopt;
}

void ScaledFp8Rows::Read(int64_t first, int64_t count, std::byte* out) const {
  constexpr int64_t kElements = BlockFp8::kElements;
  const int64_t scales_per_row = (columns_ + scale_columns_ - 1) / scale_columns_;
  for (int64_t n = first; n < first + count; ++n) {
    for (int64_t k = 0; k < columns_; k += kElements) {
      const float scale = scales_[static_cast<size_t>(n / scale_rows_ * scales_per_row + k / scale_columns_)];
      std::memcpy(out, &scale, sizeof(scale));
      out += sizeof(scale);
      const int64_t elements = std::min(kElements, columns_ - k);
      std::memcpy(out, codes_.data() + n * columns_ + k, static_cast<size_t>(elements));
      out += elements;
    }
  }
}

}  // namespace conclave::engine::quant
