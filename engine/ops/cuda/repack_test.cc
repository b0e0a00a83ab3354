// SPDX-License-Identifier: Apache-2.0
// Repacked rows hold the file's values bit for bit, on any machine; what they cannot hold is refused.
#include "engine/ops/cuda/repack.h"

#include <gtest/gtest.h>

#include <cstring>

#include "common/status.h"
#include "engine/ops/ops_fixture.h"
#include "engine/quant/blocks.h"
#include "engine/quant/group_blocks.h"

namespace conclave::engine::cuda {
namespace {

using testing::Must;
using testing::TestWeight;

std::vector<float> Decoded(DType dtype, int64_t rows, int64_t columns, const std::vector<std::byte>& bytes) {
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t n = 0; n < rows; ++n) {
    quant::DecodeRow(dtype, bytes.data() + n * RowBytes(dtype, columns),
                     std::span(values).subspan(static_cast<size_t>(n * columns), static_cast<size_t>(columns)));
  }
  return values;
}

void ExpectSameValues(const TestWeight& file, DType expected) {
  const DType to = Must(RepackedFormat(file.source()));
  EXPECT_EQ(to, expected) << Name(file.dtype);
  std::vector<std::byte> rows(static_cast<size_t>(file.rows * RowBytes(to, file.columns)));
  RepackedRows(file.source(), to).Read(0, file.rows, rows.data());
  EXPECT_EQ(Decoded(to, file.rows, file.columns, rows), Decoded(file.dtype, file.rows, file.columns, file.bytes))
      << Name(file.dtype);
  // Some rows are as they are among all.
  std::vector<std::byte> one(static_cast<size_t>(RowBytes(to, file.columns)));
  RepackedRows(file.source(), to).Read(2, 1, one.data());
  EXPECT_EQ(std::memcmp(one.data(), rows.data() + 2 * one.size(), one.size()), 0);
}

// Gives every block of a group format this scale and zero point.
template <typename Block>
void SetScales(TestWeight* file, float scale, int zero) {
  for (size_t at = 0; at < file->bytes.size(); at += sizeof(Block)) {
    const quant::GroupScale value = quant::MakeGroupScale(scale, zero);
    std::memcpy(&file->bytes[at], &value, sizeof(value));
  }
}

TEST(Repack, FormatsKeepTheirValues) {
  std::mt19937 rng(5);
  ExpectSameValues(TestWeight(DType::kIQ4_NL, 5, 96, &rng), DType::kQ8_0);
  ExpectSameValues(TestWeight(DType::kMXFP4, 5, 96, &rng), DType::kQ8_0);
  ExpectSameValues(TestWeight(DType::kQ3_K, 5, 768, &rng), DType::kQ6_K);
}

TEST(Repack, IntegerGroupsKeepTheirValues) {
  std::mt19937 rng(6);
  for (const int zero : {0, 7, 8, 9, 15, 16}) {
    TestWeight a(DType::kInt4_G32, 4, 96, &rng), b(DType::kInt4_G64, 4, 128, &rng), c(DType::kInt4_G128, 4, 256, &rng);
    SetScales<quant::BlockInt4<32>>(&a, 0.0123291015625f, zero);  // a half
    SetScales<quant::BlockInt4<64>>(&b, -0.5f, zero);
    SetScales<quant::BlockInt4<128>>(&c, 0x1p-24f, zero);
    for (const TestWeight* file : {&a, &b, &c}) ExpectSameValues(*file, zero == 8 ? DType::kQ4_0 : DType::kQ8_0);
  }
  TestWeight a(DType::kInt8_G32, 4, 96, &rng), b(DType::kInt8_G128, 4, 256, &rng);
  SetScales<quant::BlockInt8<32>>(&a, 0.25f, 128);
  SetScales<quant::BlockInt8<128>>(&b, 0.75f, 128);
  ExpectSameValues(a, DType::kQ8_0);
  ExpectSameValues(b, DType::kQ8_0);
}

// One zero point among many decides.
TEST(Repack, AZeroPointAsideWidensTheCodes) {
  std::mt19937 rng(7);
  TestWeight file(DType::kInt4_G32, 4, 96, &rng);
  SetScales<quant::BlockInt4<32>>(&file, 0.5f, 8);
  const quant::GroupScale aside = quant::MakeGroupScale(0.5f, 9);
  std::memcpy(file.bytes.data() + file.bytes.size() - sizeof(quant::BlockInt4<32>), &aside, sizeof(aside));
  ExpectSameValues(file, DType::kQ8_0);
}

void ExpectRefused(const WeightSource& source, std::string_view why) {
  const absl::Status status = RepackedFormat(source).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(Message(status).find(why), std::string_view::npos) << status;
  EXPECT_NE(Message(status).find(Name(source.dtype)), std::string_view::npos) << status;
}

TEST(Repack, WhatDoesNotFitIsRefused) {
  std::mt19937 rng(8);
  for (const DType dtype : {DType::kQ2_K, DType::kIQ4_XS, DType::kFp8_G128}) {
    ExpectRefused(TestWeight(dtype, 3, 256, &rng).source(), "--device cpu");
  }
  TestWeight four(DType::kInt4_G32, 4, 64, &rng), eight(DType::kInt8_G32, 4, 64, &rng);
  SetScales<quant::BlockInt4<32>>(&four, 0x1.002p0f, 8);  // bit 11 of the fraction: a half has ten
  ExpectRefused(four.source(), "half");
  SetScales<quant::BlockInt4<32>>(&four, 0x1p-25f, 8);
  ExpectRefused(four.source(), "half");
  SetScales<quant::BlockInt8<32>>(&eight, 0.5f, 127);
  ExpectRefused(eight.source(), "zero");
  SetScales<quant::BlockInt4<32>>(&four, 0.5f, 8);
  std::vector<int32_t> order(64);
  std::iota(order.begin(), order.end(), 0);
  WeightSource ordered = four.source();
  ordered.order = order;
  ExpectRefused(ordered, "order");
}

// Scales of a block that is all zeros do not matter; others must be halves.
TEST(Repack, MicroscaledBlocks) {
  std::mt19937 rng(9);
  for (const int e : {0, 103, 104, 128, 143, 144, 255}) {
    TestWeight file(DType::kMXFP4, 3, 64, &rng);
    quant::BlockMXFP4 block = {};
    block.e = static_cast<uint8_t>(e);
    std::memcpy(file.bytes.data() + 3 * sizeof(block), &block, sizeof(block));
    ExpectSameValues(file, DType::kQ8_0);
    block.q[5] = 0x10;  // half of 2^(e - 127)
    std::memcpy(file.bytes.data() + 3 * sizeof(block), &block, sizeof(block));
    if (e >= 104 && e <= 143) {
      ExpectSameValues(file, DType::kQ8_0);
    } else {
      ExpectRefused(file.source(), "half");
    }
  }
}

}  // namespace
}  // namespace conclave::engine::cuda
