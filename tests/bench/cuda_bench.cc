// SPDX-License-Identifier: Apache-2.0
// The CUDA backend's speed on random weights of a real shape, beside the device's roofs measured in the same run: bytes
// of a device-to-device copy (read and written) per second, and cuBLASLt's rate on the model's largest product.
//   cuda_bench [--shape 32b|30b-a3b|v3|tiny|..] [--format bf16|q4_0|q4_k] [--layers N] [--json FILE]
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

#include "common/check.h"
#include "engine/model/decoder.h"
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/ops.h"
#include "engine/ops/ops_fixture.h"
#include "tests/bench/cuda_measure.h"
#include "tests/bench/cuda_mixture.h"

namespace conclave::engine {
namespace {

using testing::Must;
using testing::TestBatch;

constexpr int32_t kPage = 32;
constexpr int kRepeats = 21;

struct Options {
  std::string shape = "32b", format = "bf16", json;
  int32_t layers = 0;
};

ModelSpec SpecOf(const Options& options) {
  ModelSpec spec;
  spec.family = "bench";
  const bool tiny = options.shape == "tiny";
  spec.layers = options.layers > 0 ? options.layers : tiny ? 2 : 64;
  spec.hidden = tiny ? 256 : 5120;
  spec.heads = tiny ? 4 : 64;
  spec.kv_heads = tiny ? 2 : 8;
  spec.head_dim = 128;
  spec.feed_forward = tiny ? 512 : 25600;
  spec.vocab = tiny ? 1024 : 151936;
  spec.context_tokens = 32768;
  spec.norm_epsilon = 1e-6f;
  spec.rope_layout = RopeLayout::kHalfSplit;
  spec.rotated = 128;
  for (int i = 0; i < 64; ++i) spec.inverse_frequency.push_back(std::pow(1e6f, -static_cast<float>(i) / 64));
  spec.head_norm = true;
  return spec;
}

class Bench {
 public:
  Bench(DType dtype, const ModelSpec& spec, Lines* lines) : spec_(spec), dtype_(dtype), lines_(*lines) {
    Cuda(cudaSetDevice(0));
    copy_bytes_per_second_ = CopyRate();
    ops_ = Must(MakeOps({.kernel = "cuda"}));
    const double begin = Seconds();
    LoadWeights();
    Line("load", Seconds() - begin, "s", fmt::format("{:.1f} GB of weights", 1e-9 * WeightBytes()));
    Line("device copy, read and written", copy_bytes_per_second_ * 1e-9, "GB/s", "");
  }

  void Run(int32_t prompt, int32_t branches, int32_t batch, int32_t batch_context) {
    const int64_t kv_token = Decoder::KvPageBytes(spec_, kPage, *ops_) / kPage;
    size_t free = 0, total = 0;
    Cuda(cudaMemGetInfo(&free, &total));
    const int64_t workspaces =
        4 * int64_t{prompt} * (3 * spec_.hidden + spec_.qkv_width() + spec_.heads * 128 + 3 * spec_.feed_forward) +
        (int64_t{3} << 30);
    const int64_t wanted = std::max(int64_t{branches} * (prompt + 64), int64_t{batch} * (batch_context + 64)) + prompt;
    const int64_t tokens = std::min<int64_t>(wanted, (static_cast<int64_t>(free) - workspaces) / kv_token);
    CONCLAVE_CHECK_MSG(tokens > prompt + 64, "no memory for one prompt");
    pages_ = static_cast<int32_t>(tokens / kPage);
    const DecoderLimits limits = {.tokens_max = prompt,
                                  .sequences_max = std::max(batch, branches),
                                  .logit_rows_max = std::max(batch, branches),
                                  .kv_pages = pages_,
                                  .page_tokens = kPage,
                                  .context_tokens = prompt + 128};
    decoder_ = Must(Decoder::Create(spec_, weights_, limits, ops_.get()));
    logits_ = decoder_->host_logits();
    blas_flops_ = BlasRate(prompt);
    Line("cuBLASLt bf16, largest product", blas_flops_ * 1e-12, "TFLOP/s", "");
    Prefill(prompt);
    Decode(1, 16, "decode, 1 sequence, fresh");
    Decode(1, batch_context, fmt::format("decode, 1 sequence at {}", batch_context));
    for (int32_t n = 4; n < batch; n *= 2) Decode(n, 16, fmt::format("decode, {} sequences, fresh", n));
    Decode(batch, 16, fmt::format("decode, {} sequences, fresh", batch));
    Decode(batch, batch_context, fmt::format("decode, {} sequences at {}", batch, batch_context));
    Branches(branches, prompt);
  }

 private:
  void Line(const std::string& what, double value, const char* unit, const std::string& note) {
    lines_.Add(what, value, unit, note);
  }

  const Weight* Matrix(int64_t rows, int64_t columns, WeightUse use = WeightUse::kMatmul) {
    const WeightSource source = {dtype_, rows, columns,
                                 std::span(rows_).first(static_cast<size_t>(rows * RowBytes(dtype_, columns)))};
    return Must(ops_->MakeWeight({&source, 1}, use));
  }
  const Weight* Vector(int64_t columns) {
    const std::vector<float> ones(static_cast<size_t>(columns), 1.0f);
    const WeightSource source = {DType::kF32, 1, columns, std::as_bytes(std::span(ones))};
    return Must(ops_->MakeWeight({&source, 1}, WeightUse::kVector));
  }

  void LoadWeights() {
    const int64_t D = spec_.hidden, F = spec_.feed_forward;
    rows_ = RandomRows(dtype_, std::max(spec_.vocab * RowBytes(dtype_, D), 2 * F * RowBytes(dtype_, D)));
    for (int32_t i = 0; i < spec_.layers; ++i) {
      LayerWeights w;
      w.attention_norm = Vector(D);
      w.qkv = Matrix(spec_.qkv_width(), D);
      w.q_norm = Vector(spec_.head_dim);
      w.k_norm = Vector(spec_.head_dim);
      w.attention_out = Matrix(D, spec_.heads * spec_.head_dim);
      w.ffn_norm = Vector(D);
      w.gate_up = Matrix(2 * F, D);
      w.down = Matrix(D, F);
      weights_.layers.push_back(w);
    }
    weights_.embedding = weights_.head = Matrix(spec_.vocab, D, WeightUse::kEmbeddingAndMatmul);
    weights_.output_norm = Vector(D);
    step_bytes_ = ops_->weight_bytes();
    product_ = weights_.layers[0].gate_up;
    rows_.clear();
    rows_.shrink_to_fit();
  }
  double WeightBytes() const { return static_cast<double>(step_bytes_); }
  double MatrixElements() const {
    const double D = spec_.hidden, F = spec_.feed_forward, head = spec_.heads * spec_.head_dim;
    return spec_.layers * (spec_.qkv_width() * D + D * head + 3 * F * D);
  }

  // A bf16 product of the shape of gate | up, with its own weight.
  double BlasRate(int64_t m) {
    if (dtype_ != DType::kBF16) return 0;
    const int64_t k = spec_.hidden;
    const View x = Must(ops_->Allocate(DType::kF32, {m, k}));
    const View large = Must(ops_->Allocate(DType::kF32, {m, product_->rows}));
    std::mt19937 rng(2);
    const std::vector<float> values = testing::Normal(&rng, static_cast<size_t>(k * 64));
    for (int64_t row = 0; row + 64 <= m; row += 64) cuda::CopyBytes(x.row(row), values.data(), values.size() * 4);
    std::vector<double> seconds;
    for (int i = 0; i < 7; ++i) {
      ops_->Gemm(large, x, *product_, Accumulate::kSet);
      Sync();
      const double begin = Seconds();
      for (int j = 0; j < 4; ++j) ops_->Gemm(large, x, *product_, Accumulate::kSet);
      Sync();
      seconds.push_back((Seconds() - begin) / 4);
    }
    return 2.0 * static_cast<double>(m * product_->rows * k) / Median(seconds);
  }
  void Sync() { CONCLAVE_CHECK(ops_->Download(View{nullptr, DType::kI8, Shape{0}}, {}).ok()); }

  double Step(const TestBatch& batch) {
    const double begin = Seconds();
    const absl::Status status =
        decoder_->Forward(batch.batch(), logits_.first(batch.logit_rows.size() * static_cast<size_t>(spec_.vocab)));
    const double seconds = Seconds() - begin;
    CONCLAVE_CHECK_MSG(status.ok(), status.ToString().c_str());
    return seconds;
  }

  // Median of the steps after the graph was made.
  double Steps(const TestBatch& batch) {
    for (int i = 0; i < 3; ++i) Step(batch);
    std::vector<double> seconds;
    for (int i = 0; i < kRepeats; ++i) seconds.push_back(Step(batch));
    return Median(seconds);
  }

  std::vector<int32_t> Table(int32_t first, int32_t tokens) const {
    std::vector<int32_t> table;
    for (int32_t i = 0; i < (tokens + kPage - 1) / kPage; ++i) table.push_back((first + i) % pages_);
    return table;
  }

  void Prefill(int32_t prompt) {
    TestBatch batch;
    batch.Add(0, prompt, Table(0, prompt), kPage);
    Step(batch);
    std::vector<double> seconds;
    for (int i = 0; i < 3; ++i) seconds.push_back(Step(batch));
    const double flops = 2.0 * prompt * (MatrixElements() + 1.0 * spec_.layers * spec_.heads * spec_.head_dim * prompt);
    Line(
        fmt::format("prefill of {}", prompt), prompt / Median(seconds), "tok/s",
        fmt::format(
            "{:.1f} TFLOP/s{}", flops / Median(seconds) * 1e-12,
            blas_flops_ > 0 ? fmt::format(", {:.1f} % of cuBLASLt", 100 * flops / Median(seconds) / blas_flops_) : ""));
  }

  // Pages of the prompt, filled by Prefill, to where a sequence lies.
  void FillFrom(int32_t first, int32_t tokens) {
    std::vector<PageCopy> copies;
    for (int32_t i = 0; i < tokens / kPage; ++i) copies.push_back({i, (first + i) % pages_});
    for (size_t at = 0; at < copies.size(); at += 32) {
      decoder_->CopyPages(std::span(copies).subspan(at, std::min<size_t>(32, copies.size() - at)));
    }
  }

  void Decode(int32_t sequences, int32_t context, const std::string& what) {
    const int32_t pages_each = (context + kPage) / kPage + 1;
    if (int64_t{pages_each} * sequences > pages_) return Line(what, 0, "", "does not fit this device");
    TestBatch batch;
    for (int32_t s = 0; s < sequences; ++s) {
      if (s > 0) FillFrom(s * pages_each, context);
      batch.Add(context, 1, Table(s * pages_each, context + 1), kPage);
    }
    const double seconds = Steps(batch), kv = 1.0 * sequences * context * KvTokenBytes();
    const double floor = std::max((WeightBytes() + kv) / copy_bytes_per_second_,
                                  blas_flops_ > 0 ? 2 * MatrixElements() * sequences / blas_flops_ : 0.0);
    Line(what, 1e3 * seconds, "ms/step", fmt::format("{:.1f} % of the floor", 100 * floor / seconds));
    if (sequences > 1) return;
    const absl::StatusOr<double> device = cuda::ReplaySeconds(ops_.get(), kRepeats);
    if (!device.ok()) return Line("host gap between steps", 0, "", std::string(device.status().message()));
    Line("host gap between steps", 1e6 * (seconds - *device), "us",
         fmt::format("{:.3f} ms of the step on the device, logits not yet copied", 1e3 * *device));
  }
  double KvTokenBytes() const { return static_cast<double>(Decoder::KvPageBytes(spec_, kPage, *ops_)) / kPage; }

  void Branches(int32_t branches, int32_t trunk) {
    const int32_t suffix = 32, trunk_pages = trunk / kPage;
    TestBatch fresh, shared, alone;
    for (int32_t s = 0; s < branches; ++s) {
      const int32_t own = trunk_pages + s * 2;
      fresh.Add(suffix, 1, Table(own, suffix + 1), kPage);
      std::vector<int32_t> table = Table(0, trunk);
      for (const int32_t page : Table(own, suffix + 1)) table.push_back(page);
      shared.Add(trunk + suffix, 1, table, kPage);
    }
    const double base = Steps(fresh), with = Steps(shared);
    const double floor = (trunk + 1.0 * branches * suffix) * KvTokenBytes() / copy_bytes_per_second_;
    Line(fmt::format("{} branches over a trunk of {}", branches, trunk), 1e3 * with, "ms/step",
         fmt::format("attention {:.3f} ms more than fresh; trunk once and suffixes {:.3f} ms", 1e3 * (with - base),
                     1e3 * floor));
    const int32_t pages_each = trunk_pages + 2;
    if (int64_t{branches} * pages_each > pages_) return Line("the same without sharing", 0, "", "does not fit");
    for (int32_t s = 0; s < branches; ++s) {
      if (s > 0) FillFrom(s * pages_each, trunk);
      alone.Add(trunk + suffix, 1, Table(s * pages_each, trunk + suffix + 1), kPage);
    }
    const double without = Steps(alone);
    Line("the same without sharing", 1e3 * without, "ms/step",
         fmt::format("attention {:.3f} ms, {:.1f} times as long", 1e3 * (without - base),
                     (without - base) / (with - base)));
  }

  const ModelSpec spec_;
  const DType dtype_;
  Lines& lines_;
  double copy_bytes_per_second_ = 0, blas_flops_ = 0;
  std::unique_ptr<Ops> ops_;
  std::vector<std::byte> rows_;
  ModelWeights weights_;
  const Weight* product_ = nullptr;
  int64_t step_bytes_ = 0;
  std::unique_ptr<Decoder> decoder_;
  int32_t pages_ = 0;
  std::span<float> logits_;
};

}  // namespace

int BenchMain(int argc, char** argv) {
  Options options;
  CLI::App app("The CUDA backend's speed beside the device's roofs");
  app.add_option("--shape", options.shape)
      ->check(CLI::IsMember({"32b", "30b-a3b", "v3", "tiny", "tiny-mixture", "tiny-latent"}));
  app.add_option("--format", options.format)->check(CLI::IsMember({"bf16", "q4_0", "q4_k"}));
  app.add_option("--layers", options.layers, "0: all")->check(CLI::Range(0, 1024));
  app.add_option("--json", options.json);
  CLI11_PARSE(app, argc, argv);
  if (const auto ops = MakeOps({.kernel = "cuda"}); !ops.ok()) {
    std::printf("cuda_bench: skipped: %s\n", std::string(ops.status().message()).c_str());
    return 0;
  }
  Lines lines;
  const DType dtype = options.format == "bf16" ? DType::kBF16 : options.format == "q4_0" ? DType::kQ4_0 : DType::kQ4_K;
  if (IsMixture(options.shape)) {
    RunMixture(options.shape, dtype, options.layers, &lines);
  } else {
    const bool tiny = options.shape == "tiny";
    Bench(dtype, SpecOf(options), &lines).Run(tiny ? 256 : 4096, tiny ? 4 : 32, tiny ? 8 : 64, tiny ? 64 : 2048);
  }
  lines.WriteJson(options.json, fmt::format("\"device\": {}, \"shape\": \"{}\", \"format\": \"{}\", \"layers\": {}",
                                            DeviceJson(), options.shape, options.format, options.layers));
  return 0;
}

}  // namespace conclave::engine

int main(int argc, char** argv) { return conclave::engine::BenchMain(argc, argv); }
