// SPDX-License-Identifier: Apache-2.0
// Speed of the kernels beside the machine's roofs, measured in the same run.
//   ops_bench [--kernel avx512] [--threads 2] [--only TEXT] [gemm|attention|model|experts]..
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
  std::string only;

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
    const bool plain = engine::testing::IsPlain(dtype);
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

  int32_t SharedPages(int32_t page) const { return shared / page; }
  int32_t OwnPages(int32_t page) const { return (own + new_tokens + page - 1) / page; }
  TestBatch Batch(int32_t page) const {
    TestBatch batch;
    for (int32_t s = 0; s < sequences; ++s) {
      std::vector<int32_t> table(static_cast<size_t>(SharedPages(page) + OwnPages(page)));
      const auto first_own = table.begin() + SharedPages(page);
      std::iota(table.begin(), first_own, 0);
      std::iota(first_own, table.end(), SharedPages(page) + s * OwnPages(page));
      batch.Add(shared + own, new_tokens, table, page);
    }
    return batch;
  }
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
    if (std::string(c.name).find(options.only) == std::string::npos) continue;
    const std::unique_ptr<Ops> ops = NewOps(options.kernel, options.threads);
    const KvLayout layout{kKvHeads, kDim, kDim, false, 0.125f, kPage};
    const int32_t pages_max = c.SharedPages(kPage) + c.sequences * c.OwnPages(kPage);
    if (!ops->Prepare({512, 64, 8192, kHeads, 64}, layout).ok()) return;
    const View pages = Must(ops->Allocate(DType::kI8, {pages_max, ops->kv_page_bytes(layout)}));
    const TestBatch batch = c.Batch(kPage);
    double attended = 0;
    for (const int32_t position : batch.positions) attended += position + 1;
    std::mt19937 rng(1);
    const int64_t tokens = static_cast<int64_t>(batch.tokens.size()), stride = (kHeads + 2 * kKvHeads) * kDim;
    const View qkv = NewView(ops.get(), {tokens, stride}, Normal(&rng, static_cast<size_t>(tokens * stride)));
    const View y = NewView(ops.get(), {tokens, kHeads * kDim});
    const AttentionPlan& plan = ops->BeginStep(batch.batch());
    const auto heads = [&](int32_t first, int32_t count) {
      return View{qkv.data + first * kDim * 4, DType::kF32, {tokens, count, kDim}};
    };
    ops->KvWrite(pages, heads(kHeads, kKvHeads), heads(kHeads + kKvHeads, kKvHeads), stride, plan);
    const double seconds = MedianSeconds([&] { ops->Attention(y, heads(0, kHeads), stride, pages, {}, plan); });
    const double rate = attended * 4 * kHeads * kDim / seconds;
    std::printf("%-44s %12.1f %12.1f %9.0f%%\n", c.name, seconds * 1e6, rate / 1e9, 100 * rate / roofs.fma);
  }
}

// All ops of a SmolLM2-135M Q4_1 step, 30 layers and head, on random weights: what a model's step costs at least.
class ModelOps {
 public:
  static constexpr int32_t kLayers = 30, kD = 576, kF = 1536, kHeads = 9, kKvHeads = 3, kDim = 64, kV = 49152,
                           kPage = 32, kTokens = 512, kSequences = 32, kWide = (kHeads + 2 * kKvHeads) * kDim;

  explicit ModelOps(const Options& options)
      : ops_(NewOps(options.kernel, options.threads)),
        qkv_(DType::kQ4_1, kWide, kD, &rng_),
        o_(DType::kQ4_1, kD, kD, &rng_),
        up_(DType::kQ4_1, 2 * kF, kD, &rng_),
        down_(DType::kQ4_1, kD, kF, &rng_),
        head_(DType::kQ8_0, kV, kD, &rng_),
        norm_(DType::kF32, 1, kD, &rng_) {
    for (int i = 0; i < kLayers; ++i) {
      layers_.push_back({Make(qkv_, WeightUse::kMatmul), Make(o_, WeightUse::kMatmul), Make(up_, WeightUse::kMatmul),
                         Make(down_, WeightUse::kMatmul), Make(norm_, WeightUse::kVector),
                         Must(ops_->Allocate(DType::kI8, {256, ops_->kv_page_bytes(kLayout)}))});
    }
    table_ = Make(head_, WeightUse::kEmbeddingAndMatmul);
    CONCLAVE_CHECK(ops_->Prepare({kTokens, kSequences, 4096, kHeads, kSequences}, kLayout).ok());
    x_ = NewView(ops_.get(), {kTokens, kD});
    y_ = NewView(ops_.get(), {kTokens, kD});
    wide_ = NewView(ops_.get(), {kTokens, kWide});
    gate_up_ = NewView(ops_.get(), {kTokens, 2 * kF});
    hidden_ = NewView(ops_.get(), {kTokens, kF});
    logits_ = NewView(ops_.get(), {kSequences, kV});
    for (int i = 0; i < kDim / 2; ++i) {
      frequency_.push_back(std::pow(100000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(kDim)));
    }
  }

  double weight_bytes() const { return static_cast<double>(ops_->weight_bytes()); }

  void Step(const TestBatch& batch) {
    const int64_t t = static_cast<int64_t>(batch.tokens.size()), o = static_cast<int64_t>(batch.logit_rows.size());
    const View x = x_.Prefix(t), y = y_.Prefix(t), wide = wide_.Prefix(t), gate_up = gate_up_.Prefix(t),
               hidden = hidden_.Prefix(t), logits = logits_.Prefix(o);
    const engine::RopeSpec rope{engine::RopeLayout::kInterleaved, kDim, frequency_, 1.0f};
    const auto heads = [&](int32_t first, int32_t count) {
      return View{wide.data + first * kDim * 4, DType::kF32, {t, count, kDim}};
    };
    const AttentionPlan& plan = ops_->BeginStep(batch.batch());
    ops_->Embed(x, *table_, plan);
    for (const Layer& layer : layers_) {
      ops_->AddRmsNorm(x, y, View{}, *layer.norm, 1e-5f);
      ops_->Gemm(wide, y, *layer.qkv, Accumulate::kSet);
      ops_->Rope(heads(0, kHeads + kKvHeads), kWide, rope, plan);
      ops_->KvWrite(layer.pages, heads(kHeads, kKvHeads), heads(kHeads + kKvHeads, kKvHeads), kWide, plan);
      ops_->Attention(y, heads(0, kHeads), kWide, layer.pages, {}, plan);
      ops_->Gemm(x, y, *layer.o, Accumulate::kAdd);
      ops_->AddRmsNorm(x, y, View{}, *layer.norm, 1e-5f);
      ops_->Gemm(gate_up, y, *layer.up, Accumulate::kSet);
      ops_->SwiGlu(hidden, gate_up);
      ops_->Gemm(x, hidden, *layer.down, Accumulate::kAdd);
    }
    ops_->AddRmsNorm(x, y, View{}, *layers_[0].norm, 1e-5f);
    ops_->GatherRows(x_.Prefix(o), y, plan);
    ops_->Gemm(logits, x_.Prefix(o), *table_, Accumulate::kSet);
    CONCLAVE_CHECK(ops_->EndStep(logits, std::span(host_).first(static_cast<size_t>(o * kV))).ok());
  }

 private:
  static constexpr KvLayout kLayout{kKvHeads, kDim, kDim, false, 0.125f, kPage};
  struct Layer {
    const Weight *qkv, *o, *up, *down, *norm;
    View pages;
  };
  const Weight* Make(const TestWeight& w, WeightUse use) {
    const WeightSource source = w.source();
    return Must(ops_->MakeWeight({&source, 1}, use));
  }

  std::unique_ptr<Ops> ops_;
  std::mt19937 rng_{1};
  TestWeight qkv_, o_, up_, down_, head_, norm_;
  std::vector<Layer> layers_;
  const Weight* table_;
  View x_, y_, wide_, gate_up_, hidden_, logits_;
  std::vector<float> frequency_;
  std::vector<float> host_ = std::vector<float>(size_t{kSequences} * kV);
};

void BenchModel(const Options& options, const Roofs& roofs) {
  ModelOps model(options);
  const double bytes = model.weight_bytes();
  std::printf("\nops of a SmolLM2-135M Q4_1 step (%.1f MB of weights)\n", bytes / 1e6);
  const AttentionCase cases[] = {{"decode 1, at 16 positions", 1, 0, 16, 1},
                                 {"decode 1, at 512 positions", 1, 0, 512, 1},
                                 {"decode 16, 512 shared + 32", 16, 512, 32, 1},
                                 {"decode 32, 512 shared + 32", 32, 512, 32, 1},
                                 {"prefill 512", 1, 0, 0, 512},
                                 {"prefill 128", 1, 0, 0, 128}};
  for (const AttentionCase& c : cases) {
    if (std::string(c.name).find(options.only) == std::string::npos) continue;
    const TestBatch batch = c.Batch(ModelOps::kPage);
    const double seconds = MedianSeconds([&] { model.Step(batch); });
    std::printf("%-32s %9.2f ms %9.0f tok/s   weights %5.1f GB/s, %3.0f%% of read roof\n", c.name, seconds * 1e3,
                static_cast<double>(batch.tokens.size()) / seconds, bytes / seconds / 1e9,
                100 * bytes / seconds / roofs.read);
  }
}

// The experts of one layer of Qwen3-30B-A3B: 128 of 768 x 2048, 8 per token. Choices are uniform and never the same
// twice, and the layer is far larger than the caches, so what is read comes from memory.
void BenchExperts(const Options& options, const Roofs& roofs) {
  constexpr int64_t kExperts = 128, kSlots = 8, kWidth = 2048, kHidden = 768, kTokensMax = 512;
  std::printf("\nexperts, 128 of 768 x 2048   weights read: GB/s (%% of read roof), GOP/s (%% of peak)\n%-6s%-8s", "",
              "k");
  const std::vector<int64_t> row_counts = {1, 4, 16, 128, 512};
  for (const int64_t m : row_counts) std::printf("%30s", ("T " + std::to_string(m)).c_str());
  std::printf("\n");
  std::mt19937 rng(3);
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_K, DType::kQ8_0, DType::kBF16}) {
    if (std::string(Name(dtype)).find(options.only) == std::string::npos) continue;
    const std::unique_ptr<Ops> ops = NewOps(options.kernel, options.threads);
    const TestWeight up(dtype, 2 * kHidden, kWidth, &rng), down(dtype, kWidth, kHidden, &rng);
    const std::vector<WeightSource> ups(kExperts, up.source()), downs(kExperts, down.source());
    const engine::WeightStack& gate_up = *Must(ops->MakeWeightStack(ups, kExperts, engine::StackUse::kExperts));
    const engine::WeightStack& back = *Must(ops->MakeWeightStack(downs, kExperts, engine::StackUse::kExperts));
    if (!ops->Prepare({kTokensMax, 1, 16, 1, 1, kSlots}, {1, 16, 16, false, 1.0f, 32}).ok()) return;
    const View x = NewView(ops.get(), {kTokensMax, kWidth}, Normal(&rng, kTokensMax * kWidth));
    const View y = NewView(ops.get(), {kTokensMax, kWidth});
    const double expert_bytes = static_cast<double>(up.bytes.size() + down.bytes.size());
    for (const int64_t slots : {kSlots, kSlots / 2}) {
      std::printf("%-6s%-8d", std::string(Name(dtype)).c_str(), static_cast<int>(slots));
      const View ids = Must(ops->Allocate(DType::kI32, {kTokensMax, slots}));
      const View weights = NewView(ops.get(), {kTokensMax, slots}, std::vector<float>(kTokensMax * slots, 0.1f));
      for (const int64_t m : row_counts) {
        double distinct = 0, calls = 0;
        const double seconds = MedianSeconds([&] {
          std::vector<uint8_t> seen(kExperts, 0);
          std::vector<int32_t> order(kExperts);
          std::iota(order.begin(), order.end(), 0);
          for (int64_t t = 0; t < m; ++t) {
            for (int64_t i = 0; i < slots; ++i) {
              std::swap(order[i], order[i + static_cast<int64_t>(rng() % (kExperts - i))]);
              ids.as<int32_t>()[t * slots + i] = order[i];
              seen[order[i]] = 1;
            }
          }
          distinct += std::accumulate(seen.begin(), seen.end(), 0);
          ++calls;
          ops->ExpertFfn(y.Prefix(m), x.Prefix(m), ids.Prefix(m), weights.Prefix(m), gate_up, back, {},
                         Accumulate::kSet);
        });
        const double bytes = distinct / calls * expert_bytes;
        const double rate = 6.0 * kHidden * kWidth * static_cast<double>(m * slots) / seconds;
        const double peak = engine::testing::IsPlain(dtype) ? roofs.fma : roofs.int8;
        std::printf("%8.1f GB/s %3.0f%% %6.0f GOP/s %2.0f%%", bytes / seconds / 1e9, 100 * bytes / seconds / roofs.read,
                    rate / 1e9, 100 * rate / peak);
        std::fflush(stdout);
      }
      std::printf("\n");
    }
  }
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Kernel speeds beside the machine's roofs"};
  app.add_option("--kernel", options.kernel, "scalar, avx2, avx512 or auto");
  app.add_option("--threads", options.threads, "threads");
  app.add_option("--only", options.only, "only the attention, model and expert cases with this in their name");
  app.add_option("parts", options.parts, "gemm, attention, model, experts; none: all");
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
  if (options.Wants("experts")) BenchExperts(options, roofs);
  return 0;
}

}  // namespace
}  // namespace conclave::bench

int main(int argc, char** argv) { return conclave::bench::Main(argc, argv); }
