// SPDX-License-Identifier: Apache-2.0
// Speed of the kernels beside the machine's roofs, measured in the same run.
//   ops_bench [--kernel avx512] [--threads 2] [gemm|attention|layer]..
// Matrix products: every format at the shapes of a small model, one row (GB/s of weights) and many (GOP/s).
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "engine/ops/ops_fixture.h"
#include "tests/bench/roofs.h"

namespace conclave::bench {
namespace {

using engine::Accumulate;
using engine::AttentionPlan;
using engine::DType;
using engine::KvLayout;
using engine::Ops;
using engine::View;
using engine::Weight;
using engine::WeightSource;
using engine::WeightUse;
using engine::testing::Must;
using engine::testing::NewOps;
using engine::testing::NewView;
using engine::testing::Normal;
using engine::testing::TestBatch;
using engine::testing::TestWeight;

struct Options {
  std::string kernel = "auto";
  int threads = 2;
  std::vector<std::string> parts;

  bool Wants(const std::string& part) const {
    return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end();
  }
};

struct Roofs {
  double read, fma, int8;
};

void BenchGemm(const Options& options, const Roofs& roofs) {
  std::printf("\nmatrix product [M, 2048] x [6144, 2048]^T   GB/s of weights (%% of read roof), GOP/s (%% of peak)\n");
  std::printf("%-6s", "");
  const std::vector<int64_t> row_counts = {1, 2, 4, 8, 16, 64, 512};
  for (const int64_t m : row_counts) std::printf("%20s", ("M " + std::to_string(m)).c_str());
  std::printf("\n");
  std::mt19937 rng(1);
  for (const DType dtype : engine::testing::kWeightDTypes) {
    constexpr int64_t kK = 2048, kN = 6144;
    const std::unique_ptr<Ops> ops = NewOps(options.kernel, options.threads);
    // Copies enough that one pass over them leaves the caches.
    const TestWeight file(dtype, kN, kK, &rng);
    const WeightSource source = file.source();
    const double bytes = static_cast<double>(file.bytes.size());
    const int copies = static_cast<int>(std::ceil(1.2e8 / bytes));
    std::vector<const Weight*> weights;
    for (int i = 0; i < copies; ++i) weights.push_back(Must(ops->MakeWeight({&source, 1}, WeightUse::kMatmul)));
    if (!ops->Prepare({512, 1, 16, 1, 1}, {1, 16, 16, false, 1.0f, 32}).ok()) return;
    std::printf("%-6s", std::string(Name(dtype)).c_str());
    const bool plain = engine::Traits(dtype).block_elements == 1;
    const View x = NewView(ops.get(), {512, kK}, Normal(&rng, 512 * kK)), y = NewView(ops.get(), {512, kN});
    for (const int64_t m : row_counts) {
      size_t next = 0;
      const double seconds = MedianSeconds(
          [&] { ops->Gemm(y.Prefix(m), x.Prefix(m), *weights[next++ % weights.size()], Accumulate::kSet); });
      const double rate = 2.0 * kK * kN * static_cast<double>(m) / seconds;
      if (m <= 4) {
        std::printf("%11.1f GB/s %2.0f%%", bytes / seconds / 1e9, 100 * bytes / seconds / roofs.read);
      } else {
        std::printf("%10.0f GOP/s %2.0f%%", rate / 1e9, 100 * rate / (plain ? roofs.fma : roofs.int8));
      }
      std::fflush(stdout);
    }
    std::printf("\n");
  }
}

// Attention at SmolLM2-135M's shape: 9 query heads, 3 key/value heads of 64.
struct AttentionCase {
  const char* name;
  int32_t sequences, shared, own, new_tokens;  // positions cached before the step, shared by all and of each
};

void BenchAttention(const Options& options, const Roofs& roofs) {
  constexpr int32_t kHeads = 9, kKvHeads = 3, kDim = 64, kPage = 32;
  std::printf("\nattention, 9 heads over 3 x 64, one layer\n%-44s %12s %12s %10s\n", "", "us", "GFLOP/s", "% of peak");
  const AttentionCase cases[] = {{"decode 1, 64 positions", 1, 0, 64, 1},
                                 {"decode 1, 512 positions", 1, 0, 512, 1},
                                 {"decode 1, 4096 positions", 1, 0, 4096, 1},
                                 {"decode 16, 512 positions each", 16, 0, 512, 1},
                                 {"decode 16, 512 shared + 32", 16, 512, 32, 1},
                                 {"decode 32, 512 shared + 32", 32, 512, 32, 1},
                                 {"prefill 512", 1, 0, 0, 512},
                                 {"prefill 512 after 1536", 1, 0, 1536, 512}};
  for (const AttentionCase& c : cases) {
    const std::unique_ptr<Ops> ops = NewOps(options.kernel, options.threads);
    const KvLayout layout{kKvHeads, kDim, kDim, false, 0.125f, kPage};
    const int32_t shared_pages = c.shared / kPage, own_pages = (c.own + c.new_tokens + kPage - 1) / kPage;
    const int32_t pages_max = shared_pages + c.sequences * own_pages;
    if (!ops->Prepare({512, 64, 8192, kHeads, 64}, layout).ok()) return;
    const View pages = Must(ops->Allocate(DType::kI8, {pages_max, ops->kv_page_bytes(layout)}));
    TestBatch batch;
    double attended = 0;
    for (int32_t s = 0; s < c.sequences; ++s) {
      std::vector<int32_t> table(static_cast<size_t>(shared_pages + own_pages));
      std::iota(table.begin(), table.begin() + shared_pages, 0);
      std::iota(table.begin() + shared_pages, table.end(), shared_pages + s * own_pages);
      batch.Add(c.shared + c.own, c.new_tokens, table, kPage);
      for (int32_t t = 0; t < c.new_tokens; ++t) attended += c.shared + c.own + t + 1;
    }
    std::mt19937 rng(1);
    const int64_t tokens = static_cast<int64_t>(batch.tokens.size()), stride = (kHeads + 2 * kKvHeads) * kDim;
    const View qkv = NewView(ops.get(), {tokens, stride}, Normal(&rng, static_cast<size_t>(tokens * stride)));
    const View y = NewView(ops.get(), {tokens, kHeads * kDim});
    const AttentionPlan& plan = ops->BeginStep(batch.batch());
    const auto heads = [&](int32_t first, int32_t count) {
      return View{qkv.data + first * kDim * 4, DType::kF32, {tokens, count, kDim}};
    };
    ops->KvWrite(pages, heads(kHeads, kKvHeads), heads(kHeads + kKvHeads, kKvHeads), stride, plan);
    const double seconds = MedianSeconds([&] { ops->Attention(y, heads(0, kHeads), stride, pages, plan); });
    const double rate = attended * 4 * kHeads * kDim / seconds;
    std::printf("%-44s %12.1f %12.1f %9.0f%%\n", c.name, seconds * 1e6, rate / 1e9, 100 * rate / roofs.fma);
  }
}

// All ops of SmolLM2-135M Q4_1, 30 layers and head, on random weights: what a model's step costs at least.
void BenchModel(const Options& options, const Roofs& roofs) {
  constexpr int32_t kLayers = 30, kD = 576, kF = 1536, kHeads = 9, kKvHeads = 3, kDim = 64, kV = 49152, kPage = 32;
  const std::unique_ptr<Ops> ops = NewOps(options.kernel, options.threads);
  std::mt19937 rng(1);
  const TestWeight qkv(DType::kQ4_1, 960, kD, &rng), o(DType::kQ4_1, kD, kD, &rng), up(DType::kQ4_1, 2 * kF, kD, &rng),
      down(DType::kQ4_1, kD, kF, &rng), head(DType::kQ8_0, kV, kD, &rng), norm(DType::kF32, 1, kD, &rng);
  const auto make = [&](const TestWeight& w, WeightUse use) {
    const WeightSource source = w.source();
    return Must(ops->MakeWeight({&source, 1}, use));
  };
  struct Layer {
    const Weight *qkv, *o, *up, *down, *norm;
    View pages;
  };
  const KvLayout layout{kKvHeads, kDim, kDim, false, 0.125f, kPage};
  std::vector<Layer> layers;
  for (int i = 0; i < kLayers; ++i) {
    layers.push_back({make(qkv, WeightUse::kMatmul), make(o, WeightUse::kMatmul), make(up, WeightUse::kMatmul),
                      make(down, WeightUse::kMatmul), make(norm, WeightUse::kVector),
                      Must(ops->Allocate(DType::kI8, {256, ops->kv_page_bytes(layout)}))});
  }
  const Weight* table = make(head, WeightUse::kEmbeddingAndMatmul);
  if (!ops->Prepare({512, 32, 4096, kHeads, 32}, layout).ok()) return;
  const double bytes = static_cast<double>(ops->weight_bytes());
  std::vector<float> frequency;
  for (int i = 0; i < kDim / 2; ++i) {
    frequency.push_back(std::pow(100000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(kDim)));
  }
  std::printf("\nops of a SmolLM2-135M Q4_1 step (%.1f MB of weights)\n", bytes / 1e6);
  const AttentionCase cases[] = {{"decode 1, at 16 positions", 1, 0, 16, 1},
                                 {"decode 1, at 512 positions", 1, 0, 512, 1},
                                 {"decode 16, 512 shared + 32", 16, 512, 32, 1},
                                 {"decode 32, 512 shared + 32", 32, 512, 32, 1},
                                 {"prefill 512", 1, 0, 0, 512},
                                 {"prefill 128", 1, 0, 0, 128}};
  const View x = NewView(ops.get(), {512, kD}), y = NewView(ops.get(), {512, kD}),
             wide = NewView(ops.get(), {512, 960}), gate_up = NewView(ops.get(), {512, 2 * kF}),
             hidden = NewView(ops.get(), {512, kF}), logits = NewView(ops.get(), {32, kV});
  std::vector<float> host(static_cast<size_t>(32 * kV));
  for (const AttentionCase& c : cases) {
    const int32_t shared_pages = c.shared / kPage, own_pages = (c.own + c.new_tokens + kPage - 1) / kPage;
    TestBatch batch;
    for (int32_t s = 0; s < c.sequences; ++s) {
      std::vector<int32_t> pages(static_cast<size_t>(shared_pages + own_pages));
      std::iota(pages.begin(), pages.begin() + shared_pages, 0);
      std::iota(pages.begin() + shared_pages, pages.end(), shared_pages + s * own_pages);
      batch.Add(c.shared + c.own, c.new_tokens, pages, kPage);
    }
    const int64_t t = static_cast<int64_t>(batch.tokens.size());
    const engine::RopeSpec rope{engine::RopeLayout::kInterleaved, kDim, frequency, 1.0f};
    const auto heads = [&](int32_t first, int32_t count) {
      return View{wide.data + first * kDim * 4, DType::kF32, {t, count, kDim}};
    };
    const double seconds = MedianSeconds([&] {
      const AttentionPlan& plan = ops->BeginStep(batch.batch());
      ops->Embed(x.Prefix(t), *table, plan);
      View residual_update;
      for (const Layer& layer : layers) {
        ops->AddRmsNorm(x.Prefix(t), y.Prefix(t), residual_update, *layer.norm, 1e-5f);
        ops->Gemm(wide.Prefix(t), y.Prefix(t), *layer.qkv, Accumulate::kSet);
        ops->Rope(heads(0, kHeads + kKvHeads), 960, rope, plan);
        ops->KvWrite(layer.pages, heads(kHeads, kKvHeads), heads(kHeads + kKvHeads, kKvHeads), 960, plan);
        ops->Attention(y.Prefix(t), heads(0, kHeads), 960, layer.pages, plan);
        ops->Gemm(x.Prefix(t), y.Prefix(t), *layer.o, Accumulate::kAdd);
        ops->AddRmsNorm(x.Prefix(t), y.Prefix(t), residual_update, *layer.norm, 1e-5f);
        ops->Gemm(gate_up.Prefix(t), y.Prefix(t), *layer.up, Accumulate::kSet);
        ops->SwiGlu(hidden.Prefix(t), gate_up.Prefix(t));
        ops->Gemm(x.Prefix(t), hidden.Prefix(t), *layer.down, Accumulate::kAdd);
      }
      ops->AddRmsNorm(x.Prefix(t), y.Prefix(t), residual_update, *layers[0].norm, 1e-5f);
      ops->GatherRows(x.Prefix(c.sequences), y.Prefix(t), plan);
      ops->Gemm(logits.Prefix(c.sequences), x.Prefix(c.sequences), *table, Accumulate::kSet);
      if (!ops->EndStep(logits.Prefix(c.sequences), std::span(host).first(static_cast<size_t>(c.sequences * kV)))
               .ok()) {
        std::abort();
      }
    });
    std::printf("%-32s %9.2f ms %9.0f tok/s   weights %5.1f GB/s, %3.0f%% of read roof\n", c.name, seconds * 1e3,
                static_cast<double>(t) / seconds, bytes / seconds / 1e9, 100 * bytes / seconds / roofs.read);
  }
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Kernel speeds beside the machine's roofs"};
  app.add_option("--kernel", options.kernel, "scalar, avx2, avx512 or auto");
  app.add_option("--threads", options.threads, "threads");
  app.add_option("parts", options.parts, "gemm, attention, model; none: all");
  CLI11_PARSE(app, argc, argv);
  const std::unique_ptr<Ops> ops = NewOps(options.kernel, options.threads);
  if (ops == nullptr) {
    std::fprintf(stderr, "this CPU cannot run the %s kernels\n", options.kernel.c_str());
    return 1;
  }
  const Roofs roofs{ReadBandwidth(options.threads), FloatPeak(options.threads), Int8Peak(options.threads)};
  std::printf("kernel %s, %d threads; roofs: read %.1f GB/s, f32 %.0f GFLOP/s, int8 %.0f GOP/s\n",
              std::string(ops->name()).c_str(), options.threads, roofs.read / 1e9, roofs.fma / 1e9, roofs.int8 / 1e9);
  if (options.Wants("gemm")) BenchGemm(options, roofs);
  if (options.Wants("attention")) BenchAttention(options, roofs);
  if (options.Wants("model")) BenchModel(options, roofs);
  return 0;
}

}  // namespace
}  // namespace conclave::bench

int main(int argc, char** argv) { return conclave::bench::Main(argc, argv); }
