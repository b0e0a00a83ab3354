// SPDX-License-Identifier: Apache-2.0
// The specification of Ops: every op x dtype x odd shapes x backend against the fp64 reference. Bounds are normalised
// mean square errors: float kernels round in f32 (and f16 keys and values), block kernels round activations to 8 bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops/ops_fixture.h"

namespace conclave::engine {
namespace {

using testing::IsPlain;
using testing::Must;
using testing::NewOps;
using testing::NewView;
using testing::Nmse;
using testing::Normal;
using testing::SquaredError;
using testing::TestBatch;
using testing::TestWeight;
using testing::Values;
using testing::WeightDTypes;

constexpr uint32_t kSeed = 20240917;

// Activations that 8 bits hold exactly: integers, with a 127 in every block of 32. The products must then be as good as
// those of float formats.
std::vector<float> Integers(std::mt19937* rng, int64_t n) {
  std::uniform_int_distribution<int> uniform(-127, 127);
  std::vector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) values[i] = i % 32 == 7 ? 127.0f : static_cast<float>(uniform(*rng));
  return values;
}

struct Small {  // a step's limits and layout for tests
  int32_t heads = 6, kv_heads = 2, dim_k = 24, dim_v = 24, page_tokens = 16;
  bool v_in_k = false;
  int32_t tokens_max = 600, sequences_max = 24, pages_max = 2000;

  KvLayout layout() const {
    return {kv_heads, dim_k, dim_v, v_in_k, 1.0f / std::sqrt(static_cast<float>(dim_k)), page_tokens};
  }
  Ops::StepLimits limits() const { return {tokens_max, sequences_max, pages_max, heads, sequences_max}; }
};

class Conformance : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ops_ = NewOps(GetParam());
    if (ops_ == nullptr) GTEST_SKIP() << "this machine cannot run the " << GetParam() << " kernels";
    reference_ = NewOps("reference");
    RecordProperty("seed", static_cast<int>(kSeed));
    std::printf("seed %u\n", kSeed);
  }
  bool rounds() const { return ops_->kv_dtype() == DType::kF16; }
  // Activations rounded to 8 bits of a block's largest: step max / 127 of about 2.4 sigma, error step^2 / 12 = 3e-5 on
  // average; a lone output scatters around that.
  // CUDA: activations, and in large products weights other than F32 and BF16, rounded to bf16 (at most 2^-9, a third of
  // its square on average: 1.3e-6; a lone output scatters around that), except in small products of plain formats.
  double GemmBound(DType dtype, int64_t m, bool exact) const {
    if (ops_->name() == "cuda") {
      const bool in_f32 = dtype == DType::kF32 || (IsPlain(dtype) && m <= 2);
      return in_f32 ? 1e-11 : exact && m <= 8 && !IsPlain(dtype) ? 1e-11 : 4e-5;
    }
    return exact || !rounds() || IsPlain(dtype) ? 1e-11 : 4e-4;
  }
  void Prepare(const Small& small) {
    ASSERT_TRUE(ops_->Prepare(small.limits(), small.layout()).ok());
    ASSERT_TRUE(reference_->Prepare(small.limits(), small.layout()).ok());
  }

  std::unique_ptr<Ops> ops_, reference_;
  std::mt19937 rng_{kSeed};
};

TEST_P(Conformance, GemmOfEveryFormatAndOddShapes) {
  struct Case {
    const Weight* weight[2];
    DType dtype;
    int64_t n, k;
  };
  std::vector<std::unique_ptr<TestWeight>> keep;
  std::vector<Case> cases;
  for (const DType dtype : WeightDTypes(GetParam())) {
    const int64_t block = Traits(dtype).block_elements;
    for (const int64_t n : {1, 16, 17, 83, 130}) {
      for (const int64_t k : {block, 3 * block, IsPlain(dtype) ? block + 36 : 5 * block}) {
        keep.push_back(std::make_unique<TestWeight>(dtype, n, k, &rng_));
        const WeightSource source = keep.back()->source();
        cases.push_back({{Must(ops_->MakeWeight({&source, 1}, WeightUse::kMatmul)),
                          Must(reference_->MakeWeight({&source, 1}, WeightUse::kMatmul))},
                         dtype,
                         n,
                         k});
      }
    }
  }
  Prepare({});
  for (const Case& c : cases) {
    for (const int64_t m : {1, 2, 5, 6, 13, 20, 40, 70, 260}) {
      if (m == 260 && c.n != 83) continue;  // more than any backend does without its largest products
      for (const bool exact : {false, true}) {
        const std::vector<float> x =
            exact ? Integers(&rng_, m * c.k) : Normal(&rng_, static_cast<size_t>(m * c.k), 60.0f);
        const std::vector<float> y0 = Normal(&rng_, static_cast<size_t>(m * c.n));
        const View y = NewView(ops_.get(), {m, c.n}, y0), expected = NewView(reference_.get(), {m, c.n}, y0);
        const Accumulate accumulate = exact ? Accumulate::kSet : Accumulate::kAdd;
        ops_->Gemm(y, NewView(ops_.get(), {m, c.k}, x), *c.weight[0], accumulate);
        reference_->Gemm(expected, NewView(reference_.get(), {m, c.k}, x), *c.weight[1], accumulate);
        // The products have variance K sigma^2 sigma_x^2; one alone may nearly cancel, so this is what the error is
        // measured against.
        const double power = static_cast<double>(m * c.n * c.k) * 0.05 * 0.05 * 60 * 60;
        EXPECT_LE(SquaredError(Values(y), Values(expected)) / power, GemmBound(c.dtype, m, exact))
            << Name(c.dtype) << " M " << m << " N " << c.n << " K " << c.k;
      }
    }
  }
}

TEST_P(Conformance, StackedSourcesOfDifferentFormats) {
  const TestWeight q(DType::kQ4_K, 50, 256, &rng_), k(DType::kQ4_K, 7, 256, &rng_), v(DType::kQ6_K, 33, 256, &rng_),
      f(DType::kF16, 3, 256, &rng_);
  const WeightSource sources[] = {q.source(), k.source(), v.source(), f.source()};
  const Weight* w = Must(ops_->MakeWeight(sources, WeightUse::kMatmul));
  const Weight* expected_w = Must(reference_->MakeWeight(sources, WeightUse::kMatmul));
  EXPECT_EQ(w->rows, 93);
  Prepare({});
  for (const int64_t m : {1, 9}) {
    const std::vector<float> x = Normal(&rng_, static_cast<size_t>(m * 256));
    const View y = NewView(ops_.get(), {m, 93}), expected = NewView(reference_.get(), {m, 93});
    ops_->Gemm(y, NewView(ops_.get(), {m, 256}, x), *w, Accumulate::kSet);
    reference_->Gemm(expected, NewView(reference_.get(), {m, 256}, x), *expected_w, Accumulate::kSet);
    EXPECT_LE(Nmse(Values(y), Values(expected)), GemmBound(DType::kQ4_K, m, false));
  }
}

TEST_P(Conformance, EmbedGivesTheFilesValuesExactly) {
  std::vector<std::unique_ptr<TestWeight>> keep;
  std::vector<const Weight*> tables[2];
  for (const DType dtype : WeightDTypes(GetParam())) {
    keep.push_back(std::make_unique<TestWeight>(dtype, 37, 512, &rng_));
    const WeightSource source = keep.back()->source();
    tables[0].push_back(Must(ops_->MakeWeight({&source, 1}, WeightUse::kEmbeddingAndMatmul)));
    tables[1].push_back(Must(reference_->MakeWeight({&source, 1}, WeightUse::kEmbedding)));
  }
  Prepare({});
  TestBatch batch;
  const int32_t pages[] = {0, 1, 2};
  batch.Add(0, 37, pages, 16);
  for (int32_t t = 0; t < 37; ++t) batch.tokens[static_cast<size_t>(t)] = 36 - t;
  for (size_t i = 0; i < keep.size(); ++i) {
    const View y = NewView(ops_.get(), {37, 512}), expected = NewView(reference_.get(), {37, 512});
    ops_->Embed(y, *tables[0][i], ops_->BeginStep(batch.batch()));
    reference_->Embed(expected, *tables[1][i], reference_->BeginStep(batch.batch()));
    EXPECT_EQ(Values(y), Values(expected)) << Name(keep[i]->dtype);
  }
}

TEST_P(Conformance, RowWiseOps) {
  Small small;
  small.dim_k = small.dim_v = 80;
  for (const int64_t width : {8, 16, 80}) {
    const TestWeight gain(DType::kF32, 1, width, &rng_);
    const WeightSource source = gain.source();
    std::unique_ptr<Ops> ops = NewOps(GetParam()), reference = NewOps("reference");
    Ops* both[2] = {ops.get(), reference.get()};
    const int64_t rows = 45, heads = 3;
    const std::vector<float> x = Normal(&rng_, static_cast<size_t>(rows * width)),
                             r = Normal(&rng_, static_cast<size_t>(rows * width)),
                             wide = Normal(&rng_, static_cast<size_t>(rows * (heads * width + 5)), 4.0f),
                             gate_up = Normal(&rng_, static_cast<size_t>(rows * 2 * width), 6.0f);
    std::vector<float> results[2][6];
    std::vector<float> frequency;
    for (int64_t i = 0; i < width / 2; ++i) {
      frequency.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(width)));
    }
    for (int b = 0; b < 2; ++b) {
      Ops* o = both[b];
      const Weight& g = *Must(o->MakeWeight({&source, 1}, WeightUse::kVector));
      ASSERT_TRUE(o->Prepare(small.limits(), small.layout()).ok());
      TestBatch batch;
      const int32_t pages[] = {4, 1, 2, 7, 5};
      batch.Add(30, static_cast<int32_t>(rows), pages, 16);
      const AttentionPlan& plan = o->BeginStep(batch.batch());
      const View residual = NewView(o, {rows, width}, r), y = NewView(o, {rows, width});
      o->AddRmsNorm(residual, y, NewView(o, {rows, width}, x), g, 1e-5f);
      results[b][0] = Values(residual);
      results[b][1] = Values(y);
      o->AddBias(y, g);
      o->AddRmsNorm(y, y, View{}, g, 1e-6f);
      results[b][2] = Values(y);
      const int64_t stride = heads * width + 5;
      const View strided = NewView(o, {rows, stride}, wide);
      const View as_heads{strided.data, DType::kF32, {rows, heads, width}};
      o->HeadRmsNorm(as_heads, stride, g, 1e-5f);
      results[b][3] = Values(strided);
      o->Rope(as_heads, stride, {RopeLayout::kInterleaved, static_cast<int32_t>(width), frequency, 1.0f}, plan);
      const int32_t part = static_cast<int32_t>(width) / 4 * 2;
      o->Rope(as_heads, stride,
              {RopeLayout::kHalfSplit, part, std::span(frequency).first(static_cast<size_t>(part / 2)), 1.2f}, plan);
      results[b][4] = Values(strided);
      o->SwiGlu(y, NewView(o, {rows, 2 * width}, gate_up));
      results[b][5] = Values(y);
    }
    for (int i = 0; i < 6; ++i)
      EXPECT_LE(Nmse(results[0][i], results[1][i]), 1e-11) << "op " << i << " width " << width;
  }
}

// Attention's outputs over a few steps: prefill in chunks and decode, several sequences with shared pages, lengths
// beyond one softmax segment. `sinks` may be empty.
std::vector<float> AttentionOutputs(Ops* ops, const Small& small, int32_t window, std::span<const float> sinks) {
  const int32_t b = small.page_tokens, pages_per_sequence = (440 + b - 1) / b;
  const int64_t q_width = small.heads * small.dim_k, k_width = small.kv_heads * small.dim_k,
                v_width = small.v_in_k ? 0 : small.kv_heads * small.dim_v, stride = q_width + k_width + v_width;
  std::vector<int32_t> trunk(static_cast<size_t>(pages_per_sequence)), branch = trunk;
  std::iota(trunk.begin(), trunk.end(), 3);
  std::iota(branch.begin(), branch.end(), 3);
  const int32_t shared_pages = 200 / b;
  for (size_t i = static_cast<size_t>(shared_pages); i < branch.size(); ++i) branch[i] += 100;
  std::vector<TestBatch> steps(4);
  steps[0].Add(0, 150, trunk, b);
  steps[1].Add(150, 161, trunk, b);
  steps[2].Add(311, 1, trunk, b);
  steps[2].Add(shared_pages * b, 37, branch, b);
  steps[3].Add(shared_pages * b + 37, 1, branch, b);
  steps[3].Add(312, 1, trunk, b);
  AttentionTerms terms = {.window = window};
  const WeightSource sink_source = {DType::kF32, 1, static_cast<int64_t>(sinks.size()), std::as_bytes(sinks)};
  if (!sinks.empty()) terms.sinks = Must(ops->MakeWeight({&sink_source, 1}, WeightUse::kVector));
  Ops::StepLimits limits = small.limits();
  limits.attention_windows = window > 0;
  limits.attention_sinks = !sinks.empty();
  CONCLAVE_CHECK(ops->Prepare(limits, small.layout()).ok());
  const View pages = Must(ops->Allocate(DType::kI8, {200, ops->kv_page_bytes(small.layout())}));
  std::mt19937 rng(kSeed);
  std::vector<float> result;
  for (const TestBatch& step : steps) {
    const int64_t t = static_cast<int64_t>(step.tokens.size());
    const View qkv = NewView(ops, {t, stride}, Normal(&rng, static_cast<size_t>(t * stride)));
    const View y = NewView(ops, {t, small.heads * small.dim_v});
    const AttentionPlan& plan = ops->BeginStep(step.batch());
    const View k{qkv.data + q_width * 4, DType::kF32, {t, small.kv_heads, small.dim_k}};
    const View v{qkv.data + (q_width + k_width) * 4, DType::kF32, {t, small.kv_heads, small.dim_v}};
    ops->KvWrite(pages, k, small.v_in_k ? View{} : v, stride, plan);
    ops->Attention(y, {qkv.data, DType::kF32, {t, small.heads, small.dim_k}}, stride, pages, terms, plan);
    CONCLAVE_CHECK(ops->EndStep(View{}, {}).ok());
    const std::vector<float> values = Values(y);
    result.insert(result.end(), values.begin(), values.end());
  }
  return result;
}

const Small kAttentionShapes[] = {
    {},
    {.heads = 4, .kv_heads = 4, .dim_k = 8, .dim_v = 8, .page_tokens = 32},
    {.heads = 9, .kv_heads = 3, .dim_k = 64, .dim_v = 64, .page_tokens = 48},
    {.heads = 56, .kv_heads = 1, .dim_k = 72, .dim_v = 64, .page_tokens = 16, .v_in_k = true}};

TEST_P(Conformance, AttentionOverPages) {
  std::vector<Small> shapes(std::begin(kAttentionShapes), std::end(kAttentionShapes));
  shapes.push_back({.heads = 20, .kv_heads = 1, .dim_k = 576, .dim_v = 512, .page_tokens = 32, .v_in_k = true});
  for (const Small& small : shapes) {
    const std::vector<float> expected = AttentionOutputs(NewOps("reference").get(), small, 0, {});
    EXPECT_LE(Nmse(AttentionOutputs(NewOps(GetParam()).get(), small, 0, {}), expected), rounds() ? 2e-6 : 1e-11)
        << "dim " << small.dim_k;
  }
}

// A page that is copied from, then copied to, then copied from again; more copies than fit one launch of a device.
TEST_P(Conformance, PagesAreCopiedInTheOrderGiven) {
  const Small small;
  const std::unique_ptr<Ops> ops = NewOps(GetParam());
  ASSERT_TRUE(ops->Prepare(small.limits(), small.layout()).ok());
  constexpr int32_t kPages = 400, kCopies = 1200;
  const int64_t page_floats = ops->kv_page_bytes(small.layout()) / 4;
  std::vector<float> values;
  for (int32_t page = 0; page < kPages; ++page) {
    for (int64_t i = 0; i < page_floats; ++i) values.push_back(static_cast<float>(page * 100000 + i));
  }
  const View floats = NewView(ops.get(), {kPages, page_floats}, values);
  std::vector<int32_t> from(kCopies), to(kCopies), expected(kPages);
  std::iota(expected.begin(), expected.end(), 0);
  for (size_t i = 0; i < kCopies; ++i) {
    // First more that depend on nothing than may run together, then what depends on what was before.
    const bool apart = i < 300;
    from[i] = apart ? 0 : static_cast<int32_t>(rng_() % 40);
    to[i] = apart ? static_cast<int32_t>(i) + 1 : static_cast<int32_t>(rng_() % 40);
    expected[static_cast<size_t>(to[i])] = expected[static_cast<size_t>(from[i])];
  }
  ops->KvCopyPages({floats.data, DType::kI8, {kPages, 4 * page_floats}}, from, to);
  const std::vector<float> copied = Values(floats);
  for (int32_t page = 0; page < kPages; ++page) {
    const int64_t source = expected[static_cast<size_t>(page)];
    EXPECT_TRUE(std::equal(copied.begin() + page * page_floats, copied.begin() + (page + 1) * page_floats,
                           values.begin() + source * page_floats))
        << page;
  }
}

// Windows shorter than a tile, a page and a segment, as long as one, and longer; sinks below, among and above scores.
TEST(Attention, WindowsAndSinks) {
  for (const Small& small : kAttentionShapes) {
    const size_t heads = static_cast<size_t>(small.heads);
    std::vector<float> low(heads, -120.0f), mixed(heads), high(heads, 95.0f);
    for (size_t h = 0; h < heads; ++h) mixed[h] = static_cast<float>(h % 7) - 2.0f;
    const std::vector<float> unmasked = AttentionOutputs(NewOps("reference").get(), small, 0, {});
    std::vector<std::pair<int32_t, std::vector<float>>> cases = {
        {0, low}, {0, mixed}, {47, high}, {47, {}}, {130, mixed}};
    if (heads < 10) cases.insert(cases.end(), {{1, mixed}, {16, {}}, {128, {}}, {312, {}}, {313, {}}, {313, mixed}});
    for (const auto& [window, sinks] : cases) {
      const std::vector<float> expected = AttentionOutputs(NewOps("reference").get(), small, window, sinks);
      const bool nothing = (window == 0 || window == 313) && (sinks.empty() || sinks == low);
      EXPECT_EQ(Nmse(expected, unmasked) < 1e-20, nothing) << "window " << window;
      for (const char* kernel : {"scalar", "avx2", "avx512", "cuda"}) {
        const std::unique_ptr<Ops> ops = NewOps(kernel);
        if (ops == nullptr) continue;  // what this machine lacks
        const std::vector<float> outputs = AttentionOutputs(ops.get(), small, window, sinks);
        // What a high sink leaves is measured against what there was.
        const double error = sinks == high ? SquaredError(outputs, expected) / SquaredError(unmasked, expected)
                                           : Nmse(outputs, expected);
        EXPECT_LE(error, std::string(kernel) == "scalar" ? 1e-11 : 2e-6)
            << "dim " << small.dim_k << " window " << window;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Conformance, ::testing::Values("scalar", "avx2", "avx512", "cuda"),
                         [](const auto& kernel) { return std::string(kernel.param); });

TEST(MakeOps, UnknownKernelsAndThreadCountsAreErrors) {
  EXPECT_EQ(MakeOps({.kernel = "sse9"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeOps({.threads = -1}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeOps({.threads = 1025}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MakeOps, WeightsThatCannotBeAreErrors) {
  for (const char* kernel : {"reference", "auto"}) {
    const std::unique_ptr<Ops> ops = NewOps(kernel);
    const std::vector<std::byte> bytes(64);
    const auto make = [&](DType dtype, int64_t rows, int64_t columns, WeightUse use) {
      const WeightSource source{dtype, rows, columns, bytes};
      return ops->MakeWeight({&source, 1}, use).status().code();
    };
    EXPECT_EQ(make(DType::kF32, 2, 8, WeightUse::kMatmul), absl::StatusCode::kOk);
    EXPECT_EQ(make(DType::kF32, 2, 9, WeightUse::kMatmul), absl::StatusCode::kInvalidArgument);  // too few bytes
    EXPECT_EQ(make(DType::kF32, 1, 8, WeightUse::kMatmul), absl::StatusCode::kInvalidArgument);  // too many
    EXPECT_EQ(make(DType::kF32, 0, 8, WeightUse::kMatmul), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(make(DType::kQ4_0, 1, 33, WeightUse::kMatmul), absl::StatusCode::kInvalidArgument);  // part of a block
    EXPECT_EQ(make(DType::kF32, 2, 8, WeightUse::kVector), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(make(DType::kI32, 1, 256, WeightUse::kMatmul), absl::StatusCode::kUnimplemented);
  }
}

TEST(MakeOps, LayoutsThatCannotBeAreErrors) {
  const std::unique_ptr<Ops> ops = NewOps("auto");
  const Ops::StepLimits limits{8, 2, 16, 6, 2};
  EXPECT_TRUE(ops->Prepare(limits, {2, 24, 24, false, 1.0f, 16}).ok());
  EXPECT_FALSE(ops->Prepare(limits, {2, 24, 24, false, 1.0f, 24}).ok());  // pages are whole tiles of 16
  EXPECT_FALSE(ops->Prepare(limits, {4, 24, 24, false, 1.0f, 16}).ok());  // 6 heads over 4
  EXPECT_FALSE(ops->Prepare(limits, {2, 24, 32, true, 1.0f, 16}).ok());   // values wider than the keys they are in
}

}  // namespace
}  // namespace conclave::engine
