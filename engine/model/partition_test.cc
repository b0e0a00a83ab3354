// SPDX-License-Identifier: Apache-2.0
// Partitions of published shapes by hand, of many shapes by what must hold, and the errors of what cannot be split.
#include "engine/model/partition.h"

#include <gtest/gtest.h>

#include "engine/model/weight_slices.h"
#include "engine/quant/codec.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

ModelSpec Dense(int32_t heads, int32_t kv_heads, int32_t feed_forward, int32_t vocab) {
  ModelSpec spec;
  spec.family = "llama";
  spec.layers = 2;
  spec.hidden = 64;
  spec.heads = heads;
  spec.kv_heads = kv_heads;
  spec.head_dim = 16;
  spec.feed_forward = feed_forward;
  spec.vocab = vocab;
  return spec;
}

// DeepSeek-V3's numbers: its first layer stands for the dense ones.
ModelSpec Mixture() {
  ModelSpec spec = Dense(128, 1, 18432, 129280);
  spec.latent = LatentAttentionSpec{.query_rank = 1536, .latent = 512, .unrotated = 128, .value = 128};
  spec.experts.emplace();
  spec.experts->router.experts = 256;
  spec.experts->router.top_k = 8;
  spec.experts->shared_feed_forward = 2048;
  spec.expert_layers = {0, 1};
  return spec;
}

TEST(Partition, OfPublishedShapes) {
  // Qwen3-32B.
  const auto dense = PlanPartition(Dense(64, 8, 25600, 151936), 4);
  ASSERT_OK(dense);
  EXPECT_EQ((*dense)[3].rank, 3);
  EXPECT_EQ((*dense)[3].ranks, 4);
  EXPECT_EQ((*dense)[3].heads, (Range{48, 16}));
  EXPECT_EQ((*dense)[3].kv_heads, (Range{6, 2}));
  EXPECT_EQ((*dense)[3].feed_forward, (Range{19200, 6400}));
  EXPECT_EQ((*dense)[3].vocab, (Range{113952, 37984}));
  // Llama-2-7B: 43 blocks of 256 columns.
  const auto uneven = PlanPartition(Dense(32, 32, 11008, 32000), 4);
  ASSERT_OK(uneven);
  EXPECT_EQ((*uneven)[0].feed_forward, (Range{0, 11 * 256}));
  EXPECT_EQ((*uneven)[3].feed_forward, (Range{33 * 256, 10 * 256}));
  const auto mixture = PlanPartition(Mixture(), 8);
  ASSERT_OK(mixture);
  EXPECT_EQ((*mixture)[5].heads, (Range{80, 16}));
  EXPECT_EQ((*mixture)[5].kv_heads, (Range{0, 1}));
  EXPECT_EQ((*mixture)[5].experts, (Range{160, 32}));
  EXPECT_EQ((*mixture)[5].shared_feed_forward, (Range{1280, 256}));
  EXPECT_EQ((*mixture)[5].feed_forward, (Range{5 * 2304, 2304}));
}

// Parts follow one another without a gap, differ by one unit at most, and a rank's heads read its own keys and values.
TEST(Partition, CoversEverythingOnce) {
  int planned = 0;
  for (const int32_t ranks : {1, 2, 3, 4, 8, kRanksMax}) {
    for (const int32_t kv_heads : {1, 2, 4, 8, 64}) {
      for (const int32_t group : {1, 3, 8}) {
        for (const int32_t width : {64, 48, 100, 768, 11008, 25600}) {
          const ModelSpec spec = Dense(kv_heads * group, kv_heads, width, 261);
          const auto parts = PlanPartition(spec, ranks);
          if (!parts.ok()) continue;
          ++planned;
          int64_t heads = 0, columns = 0, rows = 0;
          for (const Partition& part : *parts) {
            EXPECT_EQ(part.heads.first, heads);
            EXPECT_EQ(part.feed_forward.first, columns);
            EXPECT_EQ(part.vocab.first, rows);
            heads += part.heads.count;
            columns += part.feed_forward.count;
            rows += part.vocab.count;
            EXPECT_EQ(part.heads.count, spec.heads / ranks);
            EXPECT_LE((*parts)[0].feed_forward.count - part.feed_forward.count, kSplitColumns);
            EXPECT_LE((*parts)[0].vocab.count - part.vocab.count, 1);
            EXPECT_GE(part.feed_forward.count, 1);
            EXPECT_EQ(part.heads.count % part.kv_heads.count, 0);
            for (int64_t h = 0; h < part.heads.count; ++h) {
              const int64_t of_model = (part.heads.first + h) / group;
              EXPECT_EQ(part.kv_heads.first + h / (part.heads.count / part.kv_heads.count), of_model);
            }
          }
          EXPECT_EQ(heads, spec.heads);
          EXPECT_EQ(columns, width);
          EXPECT_EQ(rows, 261);
        }
      }
    }
  }
  EXPECT_GT(planned, 200);
}

TEST(Partition, OneRankHasAll) {
  const ModelSpec spec = Mixture();
  const Partition part = WholeModel(spec);
  EXPECT_EQ(part.heads, (Range{0, 128}));
  EXPECT_EQ(part.experts, (Range{0, 256}));
  EXPECT_EQ(part.vocab, (Range{0, 129280}));
  const ModelSpec own = SpecOfRank(spec, part);
  EXPECT_EQ(own.heads, spec.heads);
  EXPECT_EQ(own.feed_forward, spec.feed_forward);
  // Whatever could not be split need not be.
  ModelSpec norm = Dense(7, 7, 5, 3);
  norm.head_norm_whole = true;
  EXPECT_OK(PlanPartition(norm, 1));
}

TEST(Partition, OfARankIsASmallerModelThatRoutesToAllExperts) {
  const ModelSpec spec = Mixture();
  const ModelSpec own = SpecOfRank(spec, (*PlanPartition(spec, 4))[1]);
  EXPECT_EQ(own.heads, 32);
  EXPECT_EQ(own.kv_heads, 1);
  EXPECT_EQ(own.feed_forward, 4608);
  EXPECT_EQ(own.experts->shared_feed_forward, 512);
  EXPECT_EQ(own.experts->router.experts, 256);
  EXPECT_EQ(own.vocab, 32320);
  EXPECT_EQ(own.key_width(), spec.key_width());
}

TEST(Partition, RefusesWhatCannotBeSplit) {
  const auto error = [](const ModelSpec& spec, int32_t ranks) { return PlanPartition(spec, ranks).status(); };
  using absl::StatusCode;
  EXPECT_OK(error(Dense(64, 64, 256, 300), kRanksMax));
  EXPECT_THAT(error(Dense(65, 65, 256, 300), kRanksMax + 1),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("ranks is 65: must be in [1, 64]")));
  EXPECT_THAT(error(Dense(4, 4, 64, 64), 0), StatusIs(StatusCode::kInvalidArgument, HasSubstr("ranks is 0")));
  EXPECT_THAT(error(Dense(28, 4, 64, 64), 8),
              StatusIs(StatusCode::kInvalidArgument, AllOf(HasSubstr("ranks is 8"), HasSubstr("28 attention heads"))));
  EXPECT_THAT(error(Dense(12, 6, 64, 64), 4),
              StatusIs(StatusCode::kInvalidArgument, AllOf(HasSubstr("ranks is 4"), HasSubstr("6 key/value heads"))));
  EXPECT_OK(error(Dense(8, 8, 4, 64), 4));
  EXPECT_THAT(error(Dense(8, 8, 3, 64), 4),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("3 feed-forward columns")));
  EXPECT_OK(error(Dense(8, 8, 64, 4), 4));
  EXPECT_THAT(error(Dense(8, 8, 64, 3), 4), StatusIs(StatusCode::kInvalidArgument, HasSubstr("3 rows")));
  ModelSpec mixture = Mixture();
  mixture.experts->router.experts = 160;
  EXPECT_THAT(error(mixture, 64), StatusIs(StatusCode::kInvalidArgument, HasSubstr("160 experts")));
  mixture = Mixture();
  mixture.experts->shared_feed_forward = 1;
  EXPECT_THAT(error(mixture, 2), StatusIs(StatusCode::kInvalidArgument, HasSubstr("1 columns of the shared expert")));
  ModelSpec norm = Dense(8, 8, 64, 64);
  norm.head_norm_whole = true;
  norm.family = "olmoe";
  EXPECT_THAT(error(norm, 2), StatusIs(StatusCode::kUnimplemented, HasSubstr("olmoe")));
}

// ---- Slices

// Bytes that a source's rows are, whichever way it gives them.
std::vector<std::byte> BytesOf(const WeightSource& source) {
  if (source.reader == nullptr) return {source.bytes.begin(), source.bytes.end()};
  const int64_t row_bytes = RowBytes(source.dtype, source.columns);
  std::vector<std::byte> bytes(static_cast<size_t>(source.rows * row_bytes));
  source.reader->Read(0, 1, bytes.data());
  source.reader->Read(1, source.rows - 1, bytes.data() + row_bytes);
  return bytes;
}

std::vector<float> Decoded(const WeightSource& source) {
  const std::vector<std::byte> bytes = BytesOf(source);
  const int64_t row_bytes = RowBytes(source.dtype, source.columns);
  std::vector<float> values(static_cast<size_t>(source.rows * source.columns));
  for (int64_t n = 0; n < source.rows; ++n) {
    quant::DecodeRow(
        source.dtype, bytes.data() + n * row_bytes,
        std::span(values).subspan(static_cast<size_t>(n * source.columns), static_cast<size_t>(source.columns)));
  }
  return values;
}

class FromMemory final : public quant::RowReader {
 public:
  FromMemory(std::span<const std::byte> bytes, int64_t row_bytes) : bytes_(bytes), row_bytes_(row_bytes) {}
  void Read(int64_t first, int64_t count, std::byte* out) const override {
    const auto rows = bytes_.subspan(static_cast<size_t>(first * row_bytes_), static_cast<size_t>(count * row_bytes_));
    std::copy(rows.begin(), rows.end(), out);
  }

 private:
  const std::span<const std::byte> bytes_;
  const int64_t row_bytes_;
};

TEST(Slices, AreTheValuesOfTheirRowsAndColumns) {
  constexpr int64_t kRows = 7, kColumns = 1024;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kQ4_0, DType::kQ4_K, DType::kQ6_K, DType::kMXFP4}) {
    std::vector<float> row(kColumns);
    const int64_t row_bytes = RowBytes(dtype, kColumns);
    std::vector<std::byte> bytes(static_cast<size_t>(kRows * row_bytes));
    for (int64_t n = 0; n < kRows; ++n) {
      for (int64_t k = 0; k < kColumns; ++k) row[static_cast<size_t>(k)] = static_cast<float>((n * 31 + k * 17) % 97);
      quant::EncodeRow(dtype, row, bytes.data() + n * row_bytes);
    }
    const FromMemory reader(bytes, row_bytes);
    for (const bool read : {false, true}) {
      WeightSource whole = {dtype, kRows, kColumns, bytes};
      if (read) {
        whole.bytes = {};
        whole.reader = &reader;
      }
      const std::vector<float> all = Decoded(whole);
      SliceReaders readers;
      for (const Range rows : {Range{0, 2}, Range{2, 5}, Range{0, kRows}}) {
        for (const Range columns : {Range{0, 256}, Range{256, 768}, Range{0, kColumns}}) {
          const auto slice = SliceColumns(SliceRows(whole, rows, &readers), columns, "x", &readers);
          ASSERT_OK(slice);
          ASSERT_EQ(slice->rows, rows.count);
          ASSERT_EQ(slice->columns, columns.count);
          std::vector<float> expected;
          for (int64_t n = rows.first; n < rows.end(); ++n) {
            const auto begin = all.begin() + n * kColumns;
            expected.insert(expected.end(), begin + columns.first, begin + columns.end());
          }
          EXPECT_EQ(Decoded(*slice), expected) << Name(dtype) << " read " << read;
        }
      }
    }
  }
}

TEST(Slices, LieAtTheBordersOfBlocks) {
  SliceReaders readers;
  const std::vector<std::byte> bytes(static_cast<size_t>(4 * RowBytes(DType::kQ4_K, 512)));
  const WeightSource source = {DType::kQ4_K, 4, 512, bytes};
  EXPECT_OK(SliceColumns(source, {256, 256}, "blk.0.ffn_down.weight", &readers));
  for (const Range columns : {Range{0, 255}, Range{0, 257}, Range{255, 257}, Range{1, 511}}) {
    EXPECT_THAT(SliceColumns(source, columns, "blk.0.ffn_down.weight", &readers).status(),
                StatusIs(absl::StatusCode::kUnimplemented,
                         AllOf(HasSubstr("blk.0.ffn_down.weight"), HasSubstr("of 512"), HasSubstr("blocks of 256"))));
  }
  // A format whose last block may be cut.
  const std::vector<std::byte> cut(static_cast<size_t>(4 * RowBytes(DType::kFp8_G128, 300)));
  const WeightSource tail = {DType::kFp8_G128, 4, 300, cut};
  EXPECT_OK(SliceColumns(tail, {256, 44}, "w", &readers));
  EXPECT_THAT(SliceColumns(tail, {0, 150}, "w", &readers).status(), StatusIs(absl::StatusCode::kUnimplemented));
  std::vector<int32_t> order(512);
  for (int32_t i = 0; i < 512; ++i) order[static_cast<size_t>(i)] = 511 - i;
  WeightSource turned = source;
  turned.order = order;
  EXPECT_OK(SliceColumns(turned, {0, 512}, "w", &readers));
  EXPECT_THAT(SliceColumns(turned, {0, 256}, "w", &readers).status(),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("act-order")));
}

}  // namespace
}  // namespace conclave::engine
