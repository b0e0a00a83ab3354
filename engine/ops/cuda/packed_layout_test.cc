// SPDX-License-Identifier: Apache-2.0
// Every packed layout gives back the file's values bit for bit, and is a permutation: no two codes share a place.
#include "engine/ops/cuda/packed_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "engine/ops/ops_fixture.h"
#include "engine/quant/codec.h"

namespace conclave::engine::cuda {
namespace {

constexpr DType kBlockFormats[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                   DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// What the rest of the engine decodes and no layout here holds must not pass for a plain format.
TEST(PackedLayout, FormatsWithoutOneAreKnown) {
  for (const DType dtype : testing::kWeightDTypes) {
    const bool block = std::find(std::begin(kBlockFormats), std::end(kBlockFormats), dtype) != std::end(kBlockFormats);
    EXPECT_EQ(HasLayout(dtype), block || Traits(dtype).block_elements == 1) << Name(dtype);
  }
}

TEST(PackedLayout, RoundTripsEveryFormatAndOddShapes) {
  std::mt19937 rng(7);
  for (const DType dtype : kBlockFormats) {
    const int64_t block = Traits(dtype).block_elements;
    for (const int64_t rows : {1, 16, 17, 37}) {
      for (const int64_t columns : {block, 3 * block, 5 * block}) {
        testing::TestWeight file(dtype, rows, columns, &rng);
        // Any bytes are codes; scales stay those of the encoder.
        const PackedShape shape = ShapeOf(dtype, rows, columns);
        std::vector<uint32_t> memory(static_cast<size_t>(shape.bytes / 4));
        ASSERT_EQ(shape.bytes % 16, 0);
        auto* packed = reinterpret_cast<uint8_t*>(memory.data());
        const auto* bytes = reinterpret_cast<const uint8_t*>(file.bytes.data());
        for (int64_t n = 0; n < rows; ++n) {
          for (int64_t k = 0; k < columns; k += 8) {
            PackEight(dtype, shape, bytes + n * RowBytes(dtype, columns), n, k, packed);
          }
        }
        std::vector<float> expected(static_cast<size_t>(columns));
        for (int64_t n = 0; n < rows; ++n) {
          quant::DecodeRow(dtype, file.bytes.data() + n * RowBytes(dtype, columns), expected);
          for (int64_t k = 0; k < columns; ++k) {
            const float value = PackedValue(shape, packed, n, k);
            ASSERT_EQ(std::memcmp(&value, &expected[static_cast<size_t>(k)], 4) != 0 &&
                          value != expected[static_cast<size_t>(k)],
                      false)
                << Name(dtype) << " row " << n << " column " << k << ": " << value << ", file "
                << expected[static_cast<size_t>(k)];
          }
        }
      }
    }
  }
}

TEST(PackedLayout, PlacesOfATileAreDistinctAndFillIt) {
  std::set<int> nibbles, bytes;
  for (int r = 0; r < kTileRows; ++r) {
    for (int k = 0; k < kTileColumns; ++k) {
      nibbles.insert((LaneOf(r, k) * 4 + NibbleWord(r, k)) * 8 + Nibble(k));
      bytes.insert(ByteOf(r, k));
    }
  }
  EXPECT_EQ(nibbles.size(), 1024u);
  EXPECT_EQ(*nibbles.rbegin(), 1023);
  EXPECT_EQ(bytes.size(), 1024u);
  EXPECT_EQ(*bytes.rbegin(), 1023);
}

// Bytes per weight that decode must read: the file's for 4-bit blocks (a K-quant's 6-bit scales become bytes).
TEST(PackedLayout, BytesAreTheFilesOrNear) {
  const auto bits = [](DType dtype) { return static_cast<double>(ShapeOf(dtype, 512, 5120).bytes) * 8 / (512 * 5120); };
  EXPECT_DOUBLE_EQ(bits(DType::kQ4_0), 4.5);
  EXPECT_DOUBLE_EQ(bits(DType::kQ4_1), 5.0);
  EXPECT_DOUBLE_EQ(bits(DType::kQ4_K), 4.625);
  EXPECT_DOUBLE_EQ(bits(DType::kQ8_0), 8.5);
  EXPECT_DOUBLE_EQ(bits(DType::kQ6_K), 8.5625);
}

// Every element has a place of its own, and eight columns of a row lie together on 16 bytes.
TEST(PackedLayout, PlainTilesHoldEveryElementOnce) {
  constexpr int64_t kRows = 48, kColumns = 192;
  std::vector<bool> taken(static_cast<size_t>(kRows * kColumns * 2));
  for (int64_t n = 0; n < kRows; ++n) {
    for (int64_t k = 0; k < kColumns; ++k) {
      const int64_t at = PlainTileByte(kColumns / kTileColumns, n, k);
      ASSERT_EQ(at, PlainTileByte(kColumns / kTileColumns, n, k / 8 * 8) + k % 8 * 2);
      ASSERT_EQ((at - k % 8 * 2) % 16, 0);
      for (int64_t byte = at; byte < at + 2; ++byte) {
        ASSERT_FALSE(taken[static_cast<size_t>(byte)]);
        taken[static_cast<size_t>(byte)] = true;
      }
    }
  }
}

}  // namespace
}  // namespace conclave::engine::cuda
