// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/cuda_mixture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "common/check.h"
#include "engine/model/decoder.h"
#include "engine/ops/ops.h"
#include "engine/ops/ops_fixture.h"

namespace conclave::engine {
namespace {

using testing::Must;
using testing::TestBatch;

constexpr int32_t kPage = 32;
constexpr int kRepeats = 15;
constexpr int kWarmUp = 3;  // a step's graph is made after the second

// Layers whose weights differ: others use them in turn, far enough apart that no cache holds them.
constexpr int32_t kDistinctLayers = 12;

ModelSpec Qwen(bool tiny) {
  ModelSpec spec;
  spec.layers = tiny ? 3 : 48;
  spec.hidden = tiny ? 256 : 2048;
  spec.heads = tiny ? 4 : 32;
  spec.kv_heads = tiny ? 2 : 4;
  spec.head_dim = spec.rotated = 128;
  spec.vocab = tiny ? 1024 : 151936;
  spec.head_norm = true;
  ExpertsSpec experts;
  experts.router.experts = tiny ? 16 : 128;
  experts.router.top_k = 8;
  experts.router.normalise = true;
  experts.feed_forward = tiny ? 64 : 768;
  spec.experts = experts;
  return spec;
}

ModelSpec DeepSeek(bool tiny) {
  ModelSpec spec;
  spec.layers = 3;  // one dense
  spec.hidden = tiny ? 256 : 7168;
  spec.heads = tiny ? 8 : 128;
  spec.kv_heads = 1;
  spec.head_dim = tiny ? 48 : 192;
  spec.rotated = tiny ? 16 : 64;
  spec.vocab = tiny ? 1024 : 129280;
  spec.feed_forward = tiny ? 512 : 18432;
  spec.latent = LatentAttentionSpec{.query_rank = tiny ? 64 : 1536,
                                    .latent = tiny ? 64 : 512,
                                    .unrotated = tiny ? 32 : 128,
                                    .value = tiny ? 32 : 128,
                                    .norm_epsilon = 1e-6f,
                                    .scale = 1.0f / std::sqrt(static_cast<float>(tiny ? 48 : 192))};
  ExpertsSpec experts;
  RouterSpec& router = experts.router;
  router.experts = tiny ? 16 : 256;
  router.top_k = 8;
  router.scores = RouterSpec::Scores::kSigmoid;
  router.groups = 8, router.top_groups = 4, router.group_score = RouterSpec::GroupScore::kTopTwoSum;
  router.normalise = true, router.sum_epsilon = 1e-20f, router.scale = 2.5f;
  experts.selection_bias = true;
  experts.feed_forward = experts.shared_feed_forward = tiny ? 64 : 2048;
  spec.experts = experts;
  return spec;
}

class MixtureBench {
 public:
  MixtureBench(ModelSpec spec, DType dtype, Lines* lines) : spec_(std::move(spec)), dtype_(dtype), lines_(*lines) {
    Cuda(cudaSetDevice(0));
    copy_rate_ = CopyRate();
    lines_.Add("device copy, read and written", copy_rate_ * 1e-9, "GB/s", "");
    ops_ = Must(MakeOps({.kernel = "cuda"}));
    flops_ = BlasRate();
    lines_.Add("cuBLASLt bf16, 4096 x 8192 x 8192", flops_ * 1e-12, "TFLOP/s", "");
    const double begin = Seconds();
    LoadWeights();
    lines_.Add("load", Seconds() - begin, "s",
               fmt::format("{:.1f} GB of weights", 1e-9 * static_cast<double>(ops_->weight_bytes())));
  }

  void Run(int32_t batch, int32_t context) {
    const int32_t each = (context + kPage) / kPage + 1;
    const DecoderLimits limits = {.tokens_max = std::max(batch, 64),
                                  .sequences_max = batch,
                                  .logit_rows_max = batch,
                                  .kv_pages = batch * each,
                                  .page_tokens = kPage,
                                  .context_tokens = context + 64};
    pages_ = limits.kv_pages;
    decoder_ = Must(Decoder::Create(spec_, weights_, limits, ops_.get()));
    logits_ = decoder_->host_logits();
    for (const int32_t n : {1, batch}) Experts(n);
    for (const int32_t n : {1, 4, batch}) Decode(n, 16);
    Decode(batch, context);
    if (spec_.latent) Latent(batch, context);
  }

 private:
  const Weight* Matrix(int64_t rows, int64_t columns, DType dtype, WeightUse use = WeightUse::kMatmul) {
    const WeightSource source = {dtype, rows, columns, Rows(dtype, rows, columns)};
    return Must(ops_->MakeWeight({&source, 1}, use));
  }
  const Weight* Matrix(int64_t rows, int64_t columns) { return Matrix(rows, columns, dtype_); }
  std::span<const std::byte> Rows(DType dtype, int64_t rows, int64_t columns) {
    std::vector<std::byte>& bytes = dtype == DType::kBF16 ? plain_ : blocks_;
    const auto wanted = static_cast<size_t>(rows * RowBytes(dtype, columns));
    if (bytes.size() < wanted) bytes = RandomRows(dtype, static_cast<int64_t>(wanted));
    return std::span(bytes).first(wanted);
  }
  const Weight* Vector(int64_t columns) {
    const std::vector<float> ones(static_cast<size_t>(columns), 1.0f);
    const WeightSource source = {DType::kF32, 1, columns, std::as_bytes(std::span(ones))};
    return Must(ops_->MakeWeight({&source, 1}, WeightUse::kVector));
  }
  const WeightStack* Stack(int64_t count, int64_t rows, int64_t columns, DType dtype, StackUse use) {
    const std::vector<WeightSource> sources(static_cast<size_t>(count),
                                            {dtype, rows, columns, Rows(dtype, rows, columns)});
    return Must(ops_->MakeWeightStack(sources, count, use));
  }

  // Random rows of a router, all different: experts must not be chosen alike.
  const Weight* Router() {
    const testing::TestWeight rows(DType::kBF16, spec_.experts->router.experts, spec_.hidden, &rng_);
    const WeightSource source = rows.source();
    return Must(ops_->MakeWeight({&source, 1}, WeightUse::kMatmul));
  }

  void LoadAttention(LayerWeights* w) {
    const int64_t D = spec_.hidden, H = spec_.heads;
    w->attention_norm = Vector(D);
    w->ffn_norm = Vector(D);
    w->attention_out = Matrix(D, H * spec_.head_output());
    if (!spec_.latent) {
      w->qkv = Matrix(spec_.qkv_width(), D);
      w->q_norm = Vector(spec_.head_dim);
      w->k_norm = Vector(spec_.head_dim);
      return;
    }
    const LatentAttentionSpec& latent = *spec_.latent;
    w->q_down = Matrix(latent.query_rank, D);
    w->q_down_norm = Vector(latent.query_rank);
    w->q_up = Matrix(H * spec_.query_width(), latent.query_rank);
    w->kv_down = Matrix(spec_.key_width(), D);
    w->latent_norm = Vector(latent.latent);
    w->k_up = Stack(H, latent.latent, latent.unrotated, DType::kBF16, StackUse::kHeads);
    w->v_up = Stack(H, latent.value, latent.latent, DType::kBF16, StackUse::kHeads);
  }

  void LoadWeights() {
    const int64_t D = spec_.hidden;
    const ExpertsSpec& experts = *spec_.experts;
    for (int32_t i = 0; i < std::min(spec_.layers, kDistinctLayers); ++i) {
      LayerWeights w;
      LoadAttention(&w);
      const bool mixture = spec_.IsExpertLayer(i);
      const int64_t F = mixture ? experts.shared_feed_forward : spec_.feed_forward;
      if (F > 0) w.gate_up = Matrix(2 * F, D), w.down = Matrix(D, F);
      if (mixture) {
        w.router = Router();
        if (experts.selection_bias) w.selection_bias = Vector(experts.router.experts);
        w.experts_gate_up =
            Stack(experts.router.experts, int64_t{2} * experts.feed_forward, D, dtype_, StackUse::kExperts);
        w.experts_down = Stack(experts.router.experts, D, experts.feed_forward, dtype_, StackUse::kExperts);
      }
      weights_.layers.push_back(w);
    }
    const int64_t before = ops_->weight_bytes();
    weights_.embedding = weights_.head = Matrix(spec_.vocab, D, dtype_, WeightUse::kEmbeddingAndMatmul);
    weights_.output_norm = Vector(D);
    head_bytes_ = ops_->weight_bytes() - before;
    const int64_t E = experts.router.experts, loaded = static_cast<int64_t>(weights_.layers.size());
    int64_t mixtures = 0;
    for (int32_t i = 0; i < loaded; ++i) mixtures += spec_.IsExpertLayer(i) ? 1 : 0;
    expert_bytes_ = RowBytes(dtype_, D) * 2 * experts.feed_forward + RowBytes(dtype_, experts.feed_forward) * D;
    dense_bytes_ = (before - mixtures * E * expert_bytes_) * spec_.layers / loaded;
    for (int32_t i = static_cast<int32_t>(loaded); i < spec_.layers; ++i) {
      weights_.layers.push_back(weights_.layers[static_cast<size_t>(i % kDistinctLayers)]);
    }
  }

  // Median of the steps after the graph was made.
  template <typename Step>
  static double Time(Step step) {
    for (int i = 0; i < kWarmUp; ++i) step();
    std::vector<double> seconds;
    for (int i = 0; i < kRepeats; ++i) {
      const double begin = Seconds();
      step();
      seconds.push_back(Seconds() - begin);
    }
    return Median(seconds);
  }

  // One token each of n sequences, different ones, at `context`.
  TestBatch Batch(int32_t n, int32_t context) {
    TestBatch batch;
    const int32_t each = (context + kPage) / kPage + 1;
    for (int32_t s = 0; s < n; ++s) {
      std::vector<int32_t> table(static_cast<size_t>(each));
      for (int32_t i = 0; i < each; ++i) table[static_cast<size_t>(i)] = (s * each + i) % pages_;
      batch.Add(context, 1, table, kPage);
      batch.tokens.back() = static_cast<int32_t>(rng_() % static_cast<uint32_t>(spec_.vocab));
    }
    return batch;
  }

  void Decode(int32_t n, int32_t context) {
    const TestBatch batch = Batch(n, context);
    const double seconds = Time([&] {
      CONCLAVE_CHECK(decoder_->Forward(batch.batch(), logits_.first(static_cast<size_t>(n) * spec_.vocab)).ok());
    });
    std::vector<int32_t> ids;
    CONCLAVE_CHECK(decoder_->LastRouting(&ids, nullptr).ok());
    const auto of_layer = static_cast<size_t>(n * spec_.experts->router.top_k);
    int64_t hit = 0;
    for (size_t at = 0; at < ids.size(); at += of_layer) {
      hit += static_cast<int64_t>(std::set<int32_t>(ids.begin() + at, ids.begin() + at + of_layer).size());
    }
    const double kv = 1.0 * n * context * Decoder::KvPageBytes(spec_, kPage, *ops_) / kPage;
    const double bytes = static_cast<double>(dense_bytes_ + head_bytes_ + hit * expert_bytes_) + kv;
    lines_.Add(fmt::format("decode, {} sequences at {}", n, context), 1e3 * seconds, "ms/step",
               fmt::format("{:.1f} % of the bytes needed ({:.2f} GB; {:.1f} experts a layer)",
                           100 * bytes / copy_rate_ / seconds, 1e-9 * bytes,
                           static_cast<double>(hit) / spec_.num_expert_layers()));
  }

  // Routing and experts alone, of all layers: with the model's own number per token, and half of it.
  void Experts(int32_t n) {
    const int32_t k = spec_.experts->router.top_k;
    const int64_t D = spec_.hidden, E = spec_.experts->router.experts;
    const View y = Must(ops_->Allocate(DType::kF32, {n, D}));
    const View x = testing::NewView(ops_.get(), {n, D}, testing::Normal(&rng_, static_cast<size_t>(n * D)));
    const View ids = Must(ops_->Allocate(DType::kI32, {n, k})), weights = Must(ops_->Allocate(DType::kF32, {n, k}));
    std::vector<View> logits;
    for (int32_t i = 0; i < spec_.num_expert_layers(); ++i) {
      logits.push_back(testing::NewView(ops_.get(), {n, E}, testing::Normal(&rng_, static_cast<size_t>(n * E))));
    }
    const TestBatch batch = Batch(n, 16);
    double seconds[2] = {};
    for (int i = 0; i < 2; ++i) {
      const std::vector<int32_t> experts(static_cast<size_t>(n), i == 0 ? k : k / 2);
      seconds[i] = Time([&] {
        StepBatch step = batch.batch();
        step.experts_per_token = experts;
        const AttentionPlan& plan = ops_->BeginStep(step);
        size_t next = 0;
        for (int32_t layer = 0; layer < spec_.layers; ++layer) {
          if (!spec_.IsExpertLayer(layer)) continue;
          const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
          ops_->Route(ids, weights, logits[next++], w.selection_bias, spec_.experts->router, plan);
          ops_->ExpertFfn(y, x, ids, weights, *w.experts_gate_up, *w.experts_down, {}, Accumulate::kSet);
        }
        CONCLAVE_CHECK(ops_->EndStep(View{}, {}).ok());
      });
    }
    lines_.Add(fmt::format("experts of {} sequences, all layers", n), 1e3 * seconds[0], "ms",
               n > 1 ? ""
                     : fmt::format("{:.1f} % of their bytes", 100.0 * k * static_cast<double>(expert_bytes_) *
                                                                  spec_.num_expert_layers() / copy_rate_ / seconds[0]));
    lines_.Add(fmt::format("the same with {} per token instead of {}", k / 2, k), 1e3 * seconds[1], "ms",
               fmt::format("{:.2f} times as fast", seconds[0] / seconds[1]));
  }

  // Attention alone, over a cache larger than the device's own.
  void Latent(int32_t n, int32_t context) {
    constexpr int kCalls = 8;
    const int64_t H = spec_.heads, K = spec_.key_width(), V = spec_.value_width();
    const int64_t page_bytes = Decoder::KvPageBytes(spec_, kPage, *ops_) / spec_.layers;
    const View pages = Must(ops_->Allocate(DType::kI8, {pages_, page_bytes}));
    const View y = Must(ops_->Allocate(DType::kF32, {n, H * V}));
    const View q = testing::NewView(ops_.get(), {n, H, K}, testing::Normal(&rng_, static_cast<size_t>(n * H * K)));
    const TestBatch batch = Batch(n, context);
    const double seconds = Time([&] {
                             const AttentionPlan& plan = ops_->BeginStep(batch.batch());
                             for (int i = 0; i < kCalls; ++i) ops_->Attention(y, q, H * K, pages, {}, plan);
                             CONCLAVE_CHECK(ops_->EndStep(View{}, {}).ok());
                           }) /
                           kCalls;
    const double positions = 1.0 * n * context, flops = 2 * positions * static_cast<double>(H * (K + V));
    const double bytes = positions * static_cast<double>(page_bytes) / kPage;
    const double floor = std::max(bytes / copy_rate_, flops / flops_);
    lines_.Add(fmt::format("latent attention, {} sequences at {}", n, context), 1e3 * seconds, "ms",
               fmt::format("{:.1f} % of the floor; {:.0f} GB/s, {:.0f} TFLOP/s", 100 * floor / seconds,
                           1e-9 * bytes / seconds, 1e-12 * flops / seconds));
  }

  const ModelSpec spec_;
  const DType dtype_;
  Lines& lines_;
  std::mt19937 rng_{7};
  double copy_rate_ = 0, flops_ = 0;
  std::unique_ptr<Ops> ops_;
  std::vector<std::byte> plain_, blocks_;
  ModelWeights weights_;
  int64_t dense_bytes_ = 0, head_bytes_ = 0, expert_bytes_ = 0;  // of all layers; the head; one expert
  std::unique_ptr<Decoder> decoder_;
  int32_t pages_ = 0;
  std::span<float> logits_;
};

}  // namespace

bool IsMixture(const std::string& shape) {
  return shape == "30b-a3b" || shape == "v3" || shape == "tiny-mixture" || shape == "tiny-latent";
}

void RunMixture(const std::string& shape, DType dtype, int layers, Lines* lines) {
  const bool latent = shape == "v3" || shape == "tiny-latent", tiny = shape.starts_with("tiny");
  ModelSpec spec = latent ? DeepSeek(tiny) : Qwen(tiny);
  spec.family = "bench";
  if (layers > 0) spec.layers = layers;
  spec.context_tokens = 32768;
  spec.norm_epsilon = 1e-6f;
  spec.rope_layout = RopeLayout::kHalfSplit;
  for (int i = 0; i < spec.rotated / 2; ++i) {
    spec.inverse_frequency.push_back(std::pow(1e6f, -2.0f * static_cast<float>(i) / static_cast<float>(spec.rotated)));
  }
  spec.expert_layers.assign(static_cast<size_t>(spec.layers), 1);
  if (latent) spec.expert_layers[0] = 0;
  MixtureBench bench(std::move(spec), dtype, lines);
  bench.Run(tiny ? 8 : 32, tiny ? 64 : latent ? 8192 : 2048);
}

}  // namespace conclave::engine
