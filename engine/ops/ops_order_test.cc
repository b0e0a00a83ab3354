// SPDX-License-Identifier: Apache-2.0
// Weights whose rows a reader puts together, and whose columns are in another order than the activations': against
// plain weights with everything in its place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/ops/ops_fixture.h"

namespace conclave::engine {
namespace {

using testing::IsPlain;
using testing::Must;
using testing::NewOps;
using testing::NewView;
using testing::Normal;
using testing::SquaredError;
using testing::TestBatch;
using testing::TestWeight;
using testing::Values;

constexpr uint32_t kSeed = 90;
constexpr DType kOrdered[] = {DType::kInt4_G32, DType::kInt4_G64, DType::kInt4_G128, DType::kInt8_G32,
                              DType::kInt8_G128};

class Rows final : public quant::RowReader {
 public:
  explicit Rows(const TestWeight& weight) : weight_(weight) {}
  void Read(int64_t first, int64_t count, std::byte* out) const override {
    const auto row_bytes = static_cast<std::ptrdiff_t>(RowBytes(weight_.dtype, weight_.columns));
    std::copy_n(weight_.bytes.begin() + first * row_bytes, count * row_bytes, out);
  }

 private:
  const TestWeight& weight_;
};

// A weight in a group format whose columns are shuffled, and what it means.
struct Shuffled {
  Shuffled(DType dtype, int64_t rows, int64_t columns, std::mt19937* rng)
      : file(dtype, rows, columns, rng), reader(file), order(static_cast<size_t>(columns)) {
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), *rng);
    std::vector<float> row(order.size());
    for (int64_t n = 0; n < rows; ++n) {
      quant::DecodeRow(dtype, file.bytes.data() + n * RowBytes(dtype, columns), row);
      meaning.resize(meaning.size() + row.size());
      float* in_place = meaning.data() + meaning.size() - row.size();
      for (size_t i = 0; i < row.size(); ++i) in_place[order[i]] = row[i];
    }
  }
  WeightSource source() const { return {file.dtype, file.rows, file.columns, {}, &reader, order}; }
  WeightSource plain() const {
    return {DType::kF32, file.rows, file.columns, std::as_bytes(std::span<const float>(meaning))};
  }

  TestWeight file;
  Rows reader;
  std::vector<int32_t> order;
  std::vector<float> meaning;
};

class Order : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ops_ = NewOps(GetParam());
    if (ops_ == nullptr) GTEST_SKIP() << "this CPU cannot run the " << GetParam() << " kernels";
    reference_ = NewOps("reference");
    std::printf("seed %u\n", kSeed);
  }
  void Prepare(int32_t experts_per_token = 0) {
    const Ops::StepLimits limits = {.tokens_max = 80,
                                    .sequences_max = 1,
                                    .pages_max = 8,
                                    .query_heads = 1,
                                    .logit_rows_max = 1,
                                    .experts_per_token = experts_per_token};
    for (Ops* ops : {ops_.get(), reference_.get()}) ASSERT_TRUE(ops->Prepare(limits, {1, 16, 16, false, 1, 16}).ok());
  }
  // As in ops_conformance_test.cc: 8-bit activations. `power`: of what is summed.
  void ExpectNear(const View& y, const View& expected, double power) const {
    const double bound = ops_->kv_dtype() == DType::kF16 ? 4e-4 : 1e-11;
    EXPECT_LE(SquaredError(Values(y), Values(expected)) / power, bound);
  }

  std::unique_ptr<Ops> ops_, reference_;
  std::mt19937 rng_{kSeed};
};

TEST_P(Order, ReaderGivesWhatBytesGive) {
  std::vector<std::unique_ptr<TestWeight>> keep;
  for (const DType dtype : {DType::kInt4_G128, DType::kFp8_G128, DType::kQ4_0, DType::kBF16}) {
    keep.push_back(std::make_unique<TestWeight>(dtype, 37, 384, &rng_));
    const WeightSource bytes = keep.back()->source();
    const auto reader = std::make_unique<Rows>(*keep.back());
    const WeightSource read = {dtype, 37, 384, {}, reader.get()};
    // A reader's border falls inside a group of sixteen rows.
    const WeightSource twice[] = {bytes, bytes}, mixed[] = {read, bytes};
    const int64_t before = ops_->weight_bytes();
    const Weight* w = Must(ops_->MakeWeight(twice, WeightUse::kEmbeddingAndMatmul));
    const int64_t once = ops_->weight_bytes() - before;
    const Weight* same = Must(ops_->MakeWeight(mixed, WeightUse::kEmbeddingAndMatmul));
    EXPECT_EQ(ops_->weight_bytes() - before, 2 * once);
    Prepare();
    const std::vector<float> x = Normal(&rng_, 3 * 384);
    const View y = NewView(ops_.get(), {3, 74}), z = NewView(ops_.get(), {3, 74});
    ops_->Gemm(y, NewView(ops_.get(), {3, 384}, x), *w, Accumulate::kSet);
    ops_->Gemm(z, NewView(ops_.get(), {3, 384}, x), *same, Accumulate::kSet);
    EXPECT_EQ(Values(y), Values(z)) << Name(dtype);
  }
}

TEST_P(Order, ProductsOfSourcesWithOrdersOfTheirOwn) {
  for (const DType dtype : kOrdered) {
    const int64_t k = 3 * Traits(dtype).block_elements;
    const Shuffled a(dtype, 35, k, &rng_), b(dtype, 20, k, &rng_);
    const TestWeight straight(dtype, 18, k, &rng_), half(DType::kF16, 5, k, &rng_);
    const WeightSource sources[] = {a.source(), a.source(), straight.source(), b.source(), half.source()};
    const WeightSource plain[] = {a.plain(), a.plain(), straight.source(), b.plain(), half.source()};
    const Weight* w = Must(ops_->MakeWeight(sources, WeightUse::kMatmul));
    const Weight* expected_w = Must(reference_->MakeWeight(plain, WeightUse::kMatmul));
    const Weight* ordered_w = Must(reference_->MakeWeight(sources, WeightUse::kMatmul));
    Prepare();
    for (const int64_t m : {1, 7, 70}) {
      const std::vector<float> x = Normal(&rng_, static_cast<size_t>(m * k));
      const View y = NewView(ops_.get(), {m, w->rows}), expected = NewView(reference_.get(), {m, w->rows}),
                 ordered = NewView(reference_.get(), {m, w->rows});
      ops_->Gemm(y, NewView(ops_.get(), {m, k}, x), *w, Accumulate::kSet);
      reference_->Gemm(expected, NewView(reference_.get(), {m, k}, x), *expected_w, Accumulate::kSet);
      reference_->Gemm(ordered, NewView(reference_.get(), {m, k}, x), *ordered_w, Accumulate::kSet);
      EXPECT_EQ(Values(ordered), Values(expected));
      ExpectNear(y, expected, static_cast<double>(m * w->rows * k) * 0.05 * 0.05);
    }
  }
}

// Gate, up and down of every expert in an order of their own.
TEST_P(Order, Experts) {
  constexpr int64_t kExperts = 4, kWidth = 128, kHidden = 256, kTokens = 9, kSlots = 2;
  std::vector<std::unique_ptr<Shuffled>> keep;
  std::vector<WeightSource> gate_up, down, plain_gate_up, plain_down;
  for (int64_t e = 0; e < kExperts; ++e) {
    for (int i = 0; i < 2; ++i) {
      keep.push_back(std::make_unique<Shuffled>(DType::kInt4_G64, kHidden, kWidth, &rng_));
      gate_up.push_back(keep.back()->source());
      plain_gate_up.push_back(keep.back()->plain());
    }
    keep.push_back(std::make_unique<Shuffled>(DType::kInt4_G128, kWidth, kHidden, &rng_));
    down.push_back(keep.back()->source());
    plain_down.push_back(keep.back()->plain());
  }
  std::vector<int32_t> ids;
  for (int32_t t = 0; t < kTokens; ++t) ids.insert(ids.end(), {t % 4, (t + 1) % 4});
  const std::vector<float> x = Normal(&rng_, kTokens * kWidth), weights = Normal(&rng_, kTokens * kSlots);
  const auto run = [&](Ops* ops, std::span<const WeightSource> first, std::span<const WeightSource> second) {
    const WeightStack* a = Must(ops->MakeWeightStack(first, kExperts, StackUse::kExperts));
    const WeightStack* b = Must(ops->MakeWeightStack(second, kExperts, StackUse::kExperts));
    Prepare(kSlots);
    const View y = NewView(ops, {kTokens, kWidth}), view_ids = Must(ops->Allocate(DType::kI32, {kTokens, kSlots}));
    std::copy(ids.begin(), ids.end(), view_ids.as<int32_t>());
    ops->ExpertFfn(y, NewView(ops, {kTokens, kWidth}, x), view_ids, NewView(ops, {kTokens, kSlots}, weights), *a, *b,
                   {}, Accumulate::kSet);
    return y;
  };
  const View y = run(ops_.get(), gate_up, down), expected = run(reference_.get(), plain_gate_up, plain_down);
  double power = 0;
  for (const float v : Values(expected)) power += double{v} * v;
  ExpectNear(y, expected, power);
}

TEST_P(Order, WhatCannotBeIsRefused) {
  Shuffled w(DType::kInt4_G32, 3, 64, &rng_);
  const auto make = [&](const WeightSource& source, WeightUse use) {
    return ops_->MakeWeight({&source, 1}, use).status().code();
  };
  EXPECT_EQ(make(w.source(), WeightUse::kMatmul), absl::StatusCode::kOk);
  EXPECT_EQ(make(w.source(), WeightUse::kEmbedding), absl::StatusCode::kUnimplemented);
  WeightSource both = w.source();
  both.bytes = w.file.bytes;
  EXPECT_EQ(make(both, WeightUse::kMatmul), absl::StatusCode::kInvalidArgument);
  const WeightSource heads = w.source();
  EXPECT_EQ(ops_->MakeWeightStack({&heads, 1}, 1, StackUse::kHeads).status().code(), absl::StatusCode::kUnimplemented);
  const TestWeight plain(DType::kBF16, 3, 64, &rng_);
  WeightSource ordered = plain.source();
  ordered.order = w.order;
  EXPECT_EQ(make(ordered, WeightUse::kMatmul), absl::StatusCode::kUnimplemented);
  w.order[5] = w.order[6];
  EXPECT_EQ(make(w.source(), WeightUse::kMatmul), absl::StatusCode::kInvalidArgument);
  w.order[5] = 64;
  EXPECT_EQ(make(w.source(), WeightUse::kMatmul), absl::StatusCode::kInvalidArgument);
  w.order.resize(63);
  EXPECT_EQ(make(w.source(), WeightUse::kMatmul), absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Order, ::testing::Values("reference", "scalar", "avx2", "avx512"),
                         [](const auto& tested) { return std::string(tested.param); });

}  // namespace
}  // namespace conclave::engine
