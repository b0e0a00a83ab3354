// SPDX-License-Identifier: Apache-2.0
// A row's numbers are the same bits whatever it is computed with: rows of a product, tokens of a step, threads, pages,
// chunks of a prompt, a prefix shared or not. Sampling with a fixed seed rests on this.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "engine/ops/ops_fixture.h"

namespace conclave::engine {
namespace {

using testing::Must;
using testing::NewOps;
using testing::NewView;
using testing::Normal;
using testing::TestBatch;
using testing::TestWeight;
using testing::Values;

constexpr uint32_t kSeed = 77;

class Reproducibility : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (NewOps(GetParam()) == nullptr) GTEST_SKIP() << "this CPU cannot run the " << GetParam() << " kernels";
    std::printf("seed %u\n", kSeed);
  }
};

bool SameBits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, static_cast<size_t>(n) * sizeof(float)) == 0;
}

TEST_P(Reproducibility, GemmRowsDoNotDependOnOtherRowsOrThreads) {
  std::mt19937 rng(kSeed);
  constexpr int64_t kK = 512, kN = 83, kM = 40;
  for (const DType dtype : testing::WeightDTypes(GetParam())) {
    const TestWeight file(dtype, kN, kK, &rng);
    const std::vector<float> x = Normal(&rng, kM * kK);
    std::vector<float> expected(kM * kN);
    for (const int threads : {1, 2, 4}) {
      const std::unique_ptr<Ops> ops = NewOps(GetParam(), threads);
      const WeightSource source = file.source();
      const Weight& w = *Must(ops->MakeWeight({&source, 1}, WeightUse::kMatmul));
      ASSERT_TRUE(ops->Prepare({kM, 1, 4, 1, 1}, {1, 16, 16, false, 1.0f, 16}).ok());
      for (const int64_t m : {1, 2, 3, 7, 16, 40}) {
        for (int64_t first = 0; first + m <= kM; first += m) {
          const View y = NewView(ops.get(), {m, kN});
          ops->Gemm(y, NewView(ops.get(), {m, kK}, std::span(x).subspan(first * kK, m * kK)), w, Accumulate::kSet);
          float* known = expected.data() + first * kN;
          if (threads == 1 && m == 1) std::copy(y.row(0), y.row(0) + kN, known);
          ASSERT_TRUE(SameBits(y.as<float>(), known, m * kN)) << Name(dtype) << " M " << m << " threads " << threads;
        }
      }
    }
  }
}

// One sequence's tokens, cut into steps in every way below, must give the same attention outputs.
struct Schedule {
  int threads;
  int32_t page_tokens;
  std::vector<int32_t> chunks;  // tokens of each step of the sequence under test
  int32_t others;               // sequences in the same steps
  int32_t shared;               // leading positions, page-aligned, whose pages the others use too
};

// Logits of sinks for every head of the tests below.
constexpr float kSinks[] = {-1.0f, 0.5f, 0.0f, 2.0f, -3.0f, 1.0f};

constexpr int32_t kHeads = 6, kKvHeads = 2, kDim = 24, kLength = 300;
constexpr int64_t kStride = (kHeads + 2 * kKvHeads) * kDim;

// Attention outputs [kLength, H, Dv] of the sequence under test.
std::vector<float> Outputs(const char* kernel, const Schedule& schedule, int32_t window,
                           std::span<const float> inputs) {
  const std::unique_ptr<Ops> ops = NewOps(kernel, schedule.threads);
  const KvLayout layout{kKvHeads, kDim, kDim, false, 0.2f, schedule.page_tokens};
  const WeightSource source = {DType::kF32, 1, kHeads, std::as_bytes(std::span(kSinks))};
  AttentionTerms terms = {.window = window};
  if (window > 0) terms.sinks = Must(ops->MakeWeight({&source, 1}, WeightUse::kVector));
  CONCLAVE_CHECK(ops->Prepare({kLength * 20, 32, 4096, kHeads, 32, 0, window > 0, window > 0}, layout).ok());
  const int32_t per_sequence = kLength / schedule.page_tokens + 1, pages_total = per_sequence * (schedule.others + 1);
  const View pages = Must(ops->Allocate(DType::kI8, {pages_total, ops->kv_page_bytes(layout)}));
  std::vector<int32_t> scattered(static_cast<size_t>(pages_total));
  for (int32_t i = 0; i < pages_total; ++i) scattered[static_cast<size_t>(i)] = i;
  std::mt19937 rng(kSeed + static_cast<uint32_t>(schedule.page_tokens));
  std::shuffle(scattered.begin(), scattered.end(), rng);
  const auto table = [&](int32_t s) {  // sequence 0 is the one under test
    std::vector<int32_t> result;
    for (int32_t i = 0; i < per_sequence; ++i) {
      const int32_t owner = (i + 1) * schedule.page_tokens <= schedule.shared ? 0 : s;
      result.push_back(scattered[static_cast<size_t>(owner * per_sequence + i)]);
    }
    return result;
  };
  std::vector<float> result(kLength * kHeads * kDim);
  int32_t position = 0;
  for (const int32_t chunk : schedule.chunks) {
    TestBatch batch;
    // The others come first, one token each, somewhere beyond the shared part but no further than is cached.
    const int32_t others = position >= schedule.shared ? schedule.others : 0;
    for (int32_t s = 1; s <= others; ++s) {
      batch.Add(std::min(schedule.shared + (position - schedule.shared) / (s + 1), kLength - 1), 1, table(s),
                schedule.page_tokens);
    }
    batch.Add(position, chunk, table(0), schedule.page_tokens);
    const int64_t t = static_cast<int64_t>(batch.tokens.size());
    std::vector<float> values = Normal(&rng, static_cast<size_t>(t * kStride));
    std::copy(inputs.begin() + position * kStride, inputs.begin() + (position + chunk) * kStride,
              values.begin() + others * kStride);
    const View qkv = NewView(ops.get(), {t, kStride}, values), y = NewView(ops.get(), {t, kHeads * kDim});
    const auto heads = [&](int32_t first, int32_t count) {
      return View{qkv.data + first * kDim * 4, DType::kF32, {t, count, kDim}};
    };
    const AttentionPlan& plan = ops->BeginStep(batch.batch());
    ops->KvWrite(pages, heads(kHeads, kKvHeads), heads(kHeads + kKvHeads, kKvHeads), kStride, plan);
    ops->Attention(y, heads(0, kHeads), kStride, pages, terms, plan);
    std::copy(y.row(others), y.row(others) + chunk * kHeads * kDim, result.begin() + position * kHeads * kDim);
    position += chunk;
  }
  return result;
}

TEST_P(Reproducibility, AttentionDoesNotDependOnChunksPagesSharingOrThreads) {
  std::mt19937 rng(kSeed);
  const std::vector<float> inputs = Normal(&rng, kLength * kStride);
  const std::vector<int32_t> ones(kLength, 1);
  const Schedule schedules[] = {
      {1, 16, {kLength}, 0, 0},             // a prompt in one step
      {2, 32, {kLength}, 0, 0},             //
      {2, 48, {100, 100, 100}, 0, 0},       // in chunks; pages that segments do not align with
      {3, 256, {7, 250, 43}, 3, 0},         // with others, pages longer than a segment
      {1, 16, ones, 0, 0},                  // token by token
      {2, 32, ones, 0, 0},                  //
      {2, 16, ones, 15, 0},                 // among strangers
      {2, 32, {160, 100, 20, 20}, 9, 160},  // among sequences that share its prefix
  };
  for (const int32_t window : {0, 20, 140}) {
    std::vector<float> expected;
    for (const Schedule& schedule : schedules) {
      const std::vector<float> outputs = Outputs(GetParam(), schedule, window, inputs);
      if (expected.empty()) expected = outputs;
      for (int32_t t = 0; t < kLength; ++t) {
        const int64_t row = int64_t{t} * kHeads * kDim;
        ASSERT_TRUE(SameBits(outputs.data() + row, expected.data() + row, kHeads * kDim))
            << "token " << t << ", schedule " << &schedule - schedules << ", window " << window;
      }
    }
  }
}

// 16 decoding sequences on one trunk: the same bits as each alone on a copy of it.
TEST_P(Reproducibility, SharedPrefixEqualsPrivateCopies) {
  constexpr int32_t kPage = 32, kTrunk = 256, kSequences = 16, kPagesEach = 10;
  const KvLayout layout{kKvHeads, kDim, kDim, false, 0.2f, kPage};
  std::vector<float> results[2];
  for (const bool shared : {false, true}) {
    const std::unique_ptr<Ops> ops = NewOps(GetParam(), 2);
    ASSERT_TRUE(ops->Prepare({512, kSequences, 512, kHeads, kSequences}, layout).ok());
    const View pages = Must(ops->Allocate(DType::kI8, {kSequences * kPagesEach, ops->kv_page_bytes(layout)}));
    std::mt19937 rng(kSeed);
    const std::vector<float> trunk = Normal(&rng, kTrunk * kStride), own = Normal(&rng, kSequences * kStride);
    std::vector<std::vector<int32_t>> tables;
    for (int32_t s = 0; s < kSequences; ++s) {
      tables.emplace_back();
      for (int32_t i = 0; i < kPagesEach; ++i) {
        tables.back().push_back((shared && i < kTrunk / kPage ? 0 : s) * kPagesEach + i);
      }
    }
    const auto step = [&](const TestBatch& batch, std::span<const float> values) {
      const int64_t t = static_cast<int64_t>(batch.tokens.size());
      const View qkv = NewView(ops.get(), {t, kStride}, values), y = NewView(ops.get(), {t, kHeads * kDim});
      const auto heads = [&](int32_t first, int32_t count) {
        return View{qkv.data + first * kDim * 4, DType::kF32, {t, count, kDim}};
      };
      const AttentionPlan& plan = ops->BeginStep(batch.batch());
      ops->KvWrite(pages, heads(kHeads, kKvHeads), heads(kHeads + kKvHeads, kKvHeads), kStride, plan);
      ops->Attention(y, heads(0, kHeads), kStride, pages, {}, plan);
      return Values(y);
    };
    for (int32_t s = 0; s < (shared ? 1 : kSequences); ++s) {
      TestBatch batch;
      batch.Add(0, kTrunk, tables[static_cast<size_t>(s)], kPage);
      step(batch, trunk);
    }
    if (shared) {
      TestBatch batch;
      for (const std::vector<int32_t>& table : tables) batch.Add(kTrunk, 1, table, kPage);
      results[1] = step(batch, own);
    } else {
      for (int32_t s = 0; s < kSequences; ++s) {
        TestBatch batch;
        batch.Add(kTrunk, 1, tables[static_cast<size_t>(s)], kPage);
        const std::vector<float> y = step(batch, std::span(own).subspan(static_cast<size_t>(s * kStride), kStride));
        results[0].insert(results[0].end(), y.begin(), y.end());
      }
    }
  }
  ASSERT_EQ(results[0].size(), results[1].size());
  EXPECT_TRUE(SameBits(results[0].data(), results[1].data(), static_cast<int64_t>(results[0].size())));
}

INSTANTIATE_TEST_SUITE_P(Kernels, Reproducibility, ::testing::Values("scalar", "avx2", "avx512"),
                         [](const auto& kernel) { return std::string(kernel.param); });

}  // namespace
}  // namespace conclave::engine
