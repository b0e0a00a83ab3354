// SPDX-License-Identifier: Apache-2.0
// Speed of encoding: tokenizer_bench, with CONCLAVE_MODEL naming a GGUF file and CONCLAVE_TEXT a text file.
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "common/file.h"
#include "engine/format/gguf.h"
#include "engine/tokenizer/read_tokenizer.h"

namespace conclave::engine {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): before any thread
  return value == nullptr ? "" : value;
}

void BM_Encode(benchmark::State& state) {
  const auto file = GgufFile::Open(Variable("CONCLAVE_MODEL"));
  const auto text = ReadFile(Variable("CONCLAVE_TEXT"));
  if (!file.ok() || !text.ok()) {
    state.SkipWithError("set CONCLAVE_MODEL to a GGUF file and CONCLAVE_TEXT to a text file");
    return;
  }
  const auto tokenizer = ReadTokenizer(**file);
  if (!tokenizer.ok()) {
    state.SkipWithError("the model has no tokenizer that can be read");
    return;
  }
  int64_t tokens = 0;
  for (auto _ : state) {
    const auto ids = (*tokenizer)->Encode(*text, Tokenizer::Special::kAsText, Tokenizer::AddBos::kNo);
    tokens += static_cast<int64_t>(ids->size());
    benchmark::DoNotOptimize(ids->data());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(text->size()));
  state.SetItemsProcessed(tokens);
}
BENCHMARK(BM_Encode)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace conclave::engine

BENCHMARK_MAIN();
