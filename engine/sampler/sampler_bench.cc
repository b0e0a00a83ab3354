// SPDX-License-Identifier: Apache-2.0
// Time per token for a vocabulary of 49,152 (SmolLM2's), by kind of sampling.
#include <benchmark/benchmark.h>

#include <random>

#include "engine/sampler/sampler.h"

namespace conclave::engine {
namespace {

void Run(benchmark::State& state, const SamplerParams& params, int32_t top_logprobs) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(49152);
  for (float& x : logits) x = normal(random);
  SamplerWorkspace workspace;
  uint64_t position = 0;
  for (auto _ : state) {
    const auto output = SampleToken(
        {.logits = logits, .params = &params, .position = position++, .top_logprobs = top_logprobs}, &workspace);
    benchmark::DoNotOptimize(output->token);
  }
}

BENCHMARK_CAPTURE(Run, greedy, SamplerParams{.temperature = 0}, -1)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, greedy_logprobs, SamplerParams{.temperature = 0}, 5)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, temperature, SamplerParams{.temperature = 0.7f}, -1)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, top_k, SamplerParams{.temperature = 0.7f, .top_k = 40, .top_p = 0.95f}, -1)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, top_p, SamplerParams{.temperature = 0.7f, .top_p = 0.95f}, -1)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, min_p, SamplerParams{.temperature = 0.7f, .min_p = 0.05f}, -1)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace conclave::engine

BENCHMARK_MAIN();
