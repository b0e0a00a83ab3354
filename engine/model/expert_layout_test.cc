// SPDX-License-Identifier: Apache-2.0
#include "engine/model/expert_layout.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/quant/codec.h"

namespace conclave::engine {
namespace {

TEST(ExpertLayout, TurnsAndSortsRows) {
  constexpr int64_t kExperts = 2, kRows = 70, kColumns = 67;
  for (const RowOrder order : {RowOrder::kKept, RowOrder::kAlternating}) {
    std::vector<uint16_t> stored;
    for (int64_t e = 0; e < kExperts; ++e) {
      for (int64_t column = 0; column < kColumns; ++column) {
        for (int64_t row = 0; row < kRows; ++row) {
          stored.push_back(static_cast<uint16_t>(e * 10000 + row * 100 + column));
        }
      }
    }
    const std::vector<std::byte> turned =
        TurnExperts(std::as_bytes(std::span(stored)), 2, {kExperts, kRows, kColumns, order});
    for (int64_t i = 0; i < kExperts * kRows * kColumns; ++i) {
      uint16_t value;
      std::memcpy(&value, turned.data() + 2 * i, sizeof(value));
      const int64_t e = i / kColumns / kRows, row = i / kColumns % kRows, column = i % kColumns;
      const int64_t from = order == RowOrder::kKept ? row : row < kRows / 2 ? 2 * row : 2 * (row - kRows / 2) + 1;
      ASSERT_EQ(value, e * 10000 + from * 100 + column) << e << " " << row << " " << column;
    }
  }
}

// transformers' convert_moe_packed_tensors: byte j of a block holds elements 2 j and 2 j + 1, the low nibble first.
TEST(ExpertLayout, JoinsCodesAndScales) {
  constexpr int64_t kExperts = 2, kRows = 4, kBlocks = 3;
  const float floats[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6};
  std::vector<std::byte> codes, scales;
  for (int64_t i = 0; i < kExperts * kRows * kBlocks; ++i) {
    scales.push_back(static_cast<std::byte>(120 + i % 9));
    for (int64_t j = 0; j < 16; ++j) codes.push_back(static_cast<std::byte>(i * 37 + j * 29));
  }
  const std::vector<std::byte> rows =
      JoinMicroscaled(codes, scales, {kExperts, kRows, 32 * kBlocks, RowOrder::kAlternating});
  std::vector<float> row(32 * kBlocks);
  for (int64_t i = 0; i < kExperts * kRows; ++i) {
    quant::DecodeRow(DType::kMXFP4, rows.data() + i * RowBytes(DType::kMXFP4, 32 * kBlocks), row);
    const int64_t e = i / kRows, target = i % kRows, from = e * kRows + (target < 2 ? 2 * target : 2 * target - 3);
    for (int64_t k = 0; k < 32 * kBlocks; ++k) {
      const int byte = static_cast<int>(codes[static_cast<size_t>((from * kBlocks + k / 32) * 16 + k % 32 / 2)]);
      const int scale = static_cast<int>(scales[static_cast<size_t>(from * kBlocks + k / 32)]) - 127;
      ASSERT_EQ(row[static_cast<size_t>(k)], std::ldexp(floats[k % 2 == 0 ? byte & 15 : byte >> 4], scale));
    }
  }
}

TEST(ExpertLayout, SortsBiases) {
  const std::vector<float> stored = {0, 10, 1, 11, 2, 12, 100, 110, 101, 111, 102, 112};
  EXPECT_EQ(OrderBiases(stored, {2, 6, 1, RowOrder::kAlternating}),
            (std::vector<float>{0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112}));
  EXPECT_EQ(OrderBiases(stored, {2, 6, 1, RowOrder::kKept}), stored);
}

}  // namespace
}  // namespace conclave::engine
