// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/dtype.h"

#include <gtest/gtest.h>

#include "engine/tensor/view.h"

namespace conclave::engine {
namespace {

TEST(DType, NamesParseBack) {
  for (int i = 0; i <= static_cast<int>(DType::kFp8_G128); ++i) {
    const DType dtype = static_cast<DType>(i);
    EXPECT_EQ(ParseDType(Name(dtype)), dtype);
  }
  EXPECT_EQ(ParseDType("Q9_Z"), std::nullopt);
}

TEST(DType, RowBytesOfPublishedBlocks) {
  EXPECT_EQ(RowBytes(DType::kQ4_0, 64), 2 * 18);
  EXPECT_EQ(RowBytes(DType::kQ6_K, 512), 2 * 210);
  EXPECT_EQ(RowBytes(DType::kBF16, 3), 6);
  EXPECT_EQ(RowBytes(DType::kFp8_G128, 256), 2 * 132);
  EXPECT_EQ(RowBytes(DType::kFp8_G128, 130), 132 + 4 + 2);  // the last block is cut
  EXPECT_TRUE(HasRowsOf(DType::kFp8_G128, 1));
  EXPECT_FALSE(HasRowsOf(DType::kInt4_G128, 130));
}

TEST(View, PrefixKeepsTheRest) {
  View v{nullptr, DType::kF32, {8, 3, 4}};
  EXPECT_EQ(v.Prefix(2).shape, (Shape{2, 3, 4}));
  EXPECT_EQ((Shape{2, 3}).ToString(), "[2, 3]");
}

}  // namespace
}  // namespace conclave::engine
