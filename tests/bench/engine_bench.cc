// SPDX-License-Identifier: Apache-2.0
// The engine's speed on one model file, beside the memory roof measured in the same run.
//   engine_bench --model ~/.cache/conclave/SmolLM2-135M-Instruct.Q4_1.gguf [--threads 2] [--kernel auto]
// Without --model it runs tiny sizes on a random model, to show that it still works.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>

#include "common/clock.h"
#include "common/hash.h"
#include "engine/engine.h"
#include "tests/bench/roofs.h"
#include "tests/testing/generation.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"

namespace conclave::bench {
namespace {

using engine::Engine;
using engine::GenerateRequest;
using engine::TokenId;
using testing::Generation;

double Seconds() { return static_cast<double>(Clock::System().NowNs()) * 1e-9; }

// Bytes of this process in memory, of which file pages that others could share.
int64_t StatusBytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field + ":", 0) == 0) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  return 0;
}

struct Sizes {
  int32_t prompt, tokens, sequences, samples, repeats;
};

class Bench {
 public:
  Bench(Engine* engine, const Sizes& sizes, double roof) : engine_(engine), sizes_(sizes), roof_(roof) {}

  void Run() {
    const engine::ModelInfo& info = engine_->info();
    const double fresh = Median([&] { return DecodeRate(8); });
    Line("decode, one sequence, fresh", fresh, "tok/s",
         fmt::format("{:.0f} % of the roof", 100 * fresh * static_cast<double>(info.weight_bytes_per_token) / roof_));
    const double deep = Median([&] { return DecodeRate(sizes_.prompt); });
    Line(fmt::format("decode, one sequence, at {} positions", sizes_.prompt), deep, "tok/s", "");
    Line(fmt::format("prefill of {} tokens", sizes_.prompt),
         sizes_.prompt / Median([&] { return PrefillSeconds(sizes_.prompt); }), "tok/s", "");
    Line(fmt::format("{} sequences over a shared prompt of {}, all tokens", sizes_.sequences, sizes_.prompt),
         Median([&] { return SharedRate(sizes_.sequences); }), "tok/s", "");
    Samples();
  }

 private:
  double Median(const std::function<double()>& figure) const {
    std::vector<double> values;
    for (int i = 0; i < sizes_.repeats; ++i) values.push_back(figure());
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }
  static void Line(const std::string& what, double value, const char* unit, const std::string& remark) {
    fmt::print("{:<58} {:>10.1f} {:<6} {}\n", what, value, unit, remark);
    std::fflush(stdout);
  }

  // Never the same twice, so that nothing comes from the prefix cache unasked.
  std::vector<TokenId> Prompt(int32_t length) {
    ++prompts_;
    std::vector<TokenId> tokens;
    for (int32_t i = 0; i < length; ++i) {
      tokens.push_back(static_cast<TokenId>(PhiloxUniform(7, prompts_, i) * engine_->info().vocab));
    }
    return tokens;
  }
  GenerateRequest Request(std::vector<TokenId> prompt, int32_t tokens) {
    GenerateRequest request;
    request.prompt = std::move(prompt);
    request.sampling.temperature = 0;
    request.stopping.ignore_end_of_sequence = true;
    request.stopping.output_tokens_max = tokens;
    return request;
  }
  std::shared_ptr<Generation> Submit(GenerateRequest request) {
    auto generation = std::make_shared<Generation>();
    const auto id = engine_->Submit(std::move(request), generation);
    if (!id.ok()) {
      fmt::print(stderr, "{}\n", id.status().ToString());
      std::exit(1);
    }
    return generation;
  }

  double DecodeRate(int32_t prompt) {
    const auto generation = Submit(Request(Prompt(prompt), sizes_.tokens));
    const auto& usage = generation->Wait().usage();
    return static_cast<double>(sizes_.tokens - 1) / (static_cast<double>(usage.decode_ns) * 1e-9);
  }
  double PrefillSeconds(int32_t prompt) {
    return static_cast<double>(Submit(Request(Prompt(prompt), 1))->Wait().usage().prefill_ns) * 1e-9;
  }
  // Requests with one prompt in common and a question of their own; counts the time in which all decode.
  double SharedRate(int32_t sequences) {
    const std::vector<TokenId> trunk = Prompt(sizes_.prompt);
    Submit(Request(trunk, 1))->Wait();
    std::vector<std::shared_ptr<Generation>> generations;
    for (int32_t i = 0; i < sequences; ++i) {
      std::vector<TokenId> prompt = trunk;
      prompt.push_back(i);
      generations.push_back(Submit(Request(std::move(prompt), sizes_.tokens)));
    }
    for (const auto& generation : generations) generation->WaitForDeltas(1);
    const double begin = Seconds();
    int before = 0, after = 0;
    for (const auto& generation : generations) before += generation->deltas();
    for (const auto& generation : generations) generation->Wait();
    const double end = Seconds();
    for (const auto& generation : generations) after += generation->deltas();
    return (after - before) / (end - begin);
  }
  // n samples of one prompt against one prefill and the decoding of as many sequences, all measured in turn: on a
  // shared machine only their ratio means something.
  void Samples() {
    std::vector<double> walls, ratios;
    for (int i = 0; i < 2 * sizes_.repeats - 1; ++i) {
      const double prefill = PrefillSeconds(sizes_.prompt);
      const double decode = sizes_.samples * (sizes_.tokens - 1) / SharedRate(sizes_.samples);
      GenerateRequest request = Request(Prompt(sizes_.prompt), sizes_.tokens);
      request.samples = sizes_.samples;
      const double begin = Seconds();
      Submit(std::move(request))->Wait();
      walls.push_back(Seconds() - begin);
      ratios.push_back(walls.back() / (prefill + decode));
    }
    std::sort(walls.begin(), walls.end());
    std::sort(ratios.begin(), ratios.end());
    Line(fmt::format("{} samples of a prompt of {}, {} tokens each", sizes_.samples, sizes_.prompt, sizes_.tokens),
         walls[walls.size() / 2] * 1e3, "ms",
         fmt::format("{:.2f} x (one prefill + {}-wide decode)", ratios[ratios.size() / 2], sizes_.samples));
  }

  Engine* const engine_;
  const Sizes sizes_;
  const double roof_;
  uint64_t prompts_ = 0;
};

int Main(int argc, char** argv) {
  engine::EngineOptions options;
  options.threads = 2;
  options.context_tokens_max = 2048;
  CLI::App app("Engine speed beside the memory roof");
  app.add_option("--model", options.model_path, "GGUF file; default: a tiny random model");
  app.add_option("--threads", options.threads);
  app.add_option("--kernel", options.kernel);
  CLI11_PARSE(app, argc, argv);
  const bool tiny = options.model_path.empty();
  const testing::TempDir folder;
  if (tiny) {
    options.model_path = folder.path() + "/tiny.gguf";
    testing::TinyModel().Write(options.model_path);
    options.kv_bytes = 8 << 20;
  }
  const double begin = Seconds();
  auto engine = Engine::Create(options);
  if (!engine.ok()) {
    fmt::print(stderr, "{}\n", engine.status().ToString());
    return 1;
  }
  auto first = std::make_shared<Generation>();
  GenerateRequest request;
  request.prompt = *(*engine)->Tokenize("Hello", Engine::SpecialTokens::kAsText, true);
  request.stopping.output_tokens_max = 1;
  if (!(*engine)->Submit(request, first).ok()) return 1;
  first->Wait();
  const double start_seconds = Seconds() - begin;

  const engine::ModelInfo& info = (*engine)->info();
  const double roof = tiny ? 1e9 : ReadBandwidth(options.threads);
  fmt::print("{} {}, kernel {}, {} threads; roof {:.1f} GB/s, {:.1f} MB read per token\n", info.name, info.quantization,
             info.kernel, options.threads, roof * 1e-9, static_cast<double>(info.weight_bytes_per_token) * 1e-6);
  Bench(engine->get(), tiny ? Sizes{40, 4, 4, 2, 1} : Sizes{512, 64, 16, 8, 3}, roof).Run();

  const engine::MemoryPlan& memory = (*engine)->memory();
  const auto megabytes = [](int64_t bytes) { return static_cast<double>(bytes) * 1e-6; };
  const int64_t resident = StatusBytes("VmRSS"), peak = StatusBytes("VmHWM");
  fmt::print("{:<58} {:>10.3f} s\n", "start to first token", start_seconds);
  fmt::print("{:<58} {:>10.1f} MB     {:+.1f} MB over file and KV plan; peak {:.1f}\n", "resident", megabytes(resident),
             megabytes(resident - info.weight_bytes - memory.kv_bytes), megabytes(peak));
  fmt::print("{}", memory.ToString());
  return 0;
}

}  // namespace
}  // namespace conclave::bench

int main(int argc, char** argv) { return conclave::bench::Main(argc, argv); }
