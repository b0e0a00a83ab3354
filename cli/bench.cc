// SPDX-License-Identifier: Apache-2.0
// `conclave bench`: how fast a model file runs here, beside what the memory allows.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/memory_roof.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

struct Arguments {
  EngineFlags engine;
  Output output;
  int32_t repeats = 5;
};

struct Row {
  std::string name;
  double tokens_per_second;  // median
  double slowest, fastest;
  double bytes_per_second;  // weights and KV read, 0 where memory is not the limit
};

// Pseudo-random prompt ids, different for every call, so that no prefix is found in the cache by accident.
std::vector<engine::TokenId> PromptIds(int32_t count, int32_t vocab, uint64_t stream) {
  std::vector<engine::TokenId> ids;
  for (int32_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<engine::TokenId>(PhiloxUniform(1, stream, static_cast<uint64_t>(i)) * vocab));
  }
  return ids;
}

struct Load {
  std::string name;
  int32_t prompt, output, samples;
  bool prefill;  // tokens counted are the prompt's, else the output's
};

absl::StatusOr<Row> Measure(engine::Engine& engine, const Load& load, int32_t repeats, uint64_t* stream) {
  std::vector<double> rates, bytes;
  for (int32_t r = 0; r <= repeats; ++r) {  // the first warms up
    engine::GenerateRequest request;
    request.prompt = PromptIds(load.prompt, engine.info().vocab, ++*stream);
    request.samples = load.samples;
    request.seed = *stream;
    request.stopping.output_tokens_max = load.output;
    request.stopping.ignore_end_of_sequence = true;
    ASSIGN_OR_RETURN(GenerateResult result, GenerateBlocking(engine, std::move(request)));
    const engine::Usage& u = result.usage;
    const double seconds = 1e-9 * static_cast<double>(load.prefill ? u.prefill_ns : u.decode_ns);
    // The first token of each sample comes out of the prefill.
    const double tokens = static_cast<double>(load.prefill ? u.prompt_tokens : u.output_tokens - load.samples);
    if (r == 0 || seconds <= 0) continue;
    rates.push_back(tokens / seconds);
    const double steps = tokens / load.samples;
    bytes.push_back(load.prefill ? 0 : steps * static_cast<double>(engine.info().weight_bytes_per_token) / seconds);
  }
  std::sort(rates.begin(), rates.end());
  std::sort(bytes.begin(), bytes.end());
  const size_t middle = rates.size() / 2;
  return Row{load.name, rates[middle], rates.front(), rates.back(), bytes[middle]};
}

absl::Status Bench(const Arguments& a) {
  Arguments arguments = a;
  ASSIGN_OR_RETURN(auto engine, arguments.engine.Load());
  const int32_t threads =
      a.engine.threads > 0 ? a.engine.threads : static_cast<int32_t>(std::thread::hardware_concurrency());
  const double roof = MeasureReadBandwidth(threads);
  const int32_t context = engine->info().context_tokens;
  const int32_t p = std::min(512, context / 2);
  const int32_t n = std::min(64, context / 4);
  const std::vector<Load> loads = {
      {"prefill " + std::to_string(p), p, 1, 1, true},
      {"decode, fresh", 4, n, 1, false},
      {"decode at " + std::to_string(p), p, n, 1, false},
      {"decode, 8 samples of one prompt of " + std::to_string(p), p, n, 8, false},
      {"decode, 16 samples of one prompt of " + std::to_string(p), p, n, 16, false},
  };
  std::vector<Row> rows;
  uint64_t stream = 0;
  for (const Load& load : loads) {
    ASSIGN_OR_RETURN(Row row, Measure(*engine, load, a.repeats, &stream));
    rows.push_back(row);
  }
  if (a.output.json) {
    nlohmann::ordered_json json = {{"model", engine->info().name},
                                   {"quantization", engine->info().quantization},
                                   {"kernel", engine->info().kernel},
                                   {"threads", threads},
                                   {"roof_bytes_per_second", roof}};
    for (const Row& row : rows) {
      json["rows"].push_back({{"name", row.name},
                              {"tokens_per_second", row.tokens_per_second},
                              {"slowest", row.slowest},
                              {"fastest", row.fastest},
                              {"bytes_per_second", row.bytes_per_second},
                              {"share_of_roof", row.bytes_per_second / roof}});
    }
    std::printf("%s\n", json.dump(2).c_str());
    return absl::OkStatus();
  }
  std::printf("%s, %s, kernel %s, %d thread(s); memory read roof %.1f GB/s; medians of %d\n\n",
              engine->info().name.c_str(), engine->info().quantization.c_str(), engine->info().kernel.c_str(), threads,
              roof * 1e-9, a.repeats);
  std::printf("%-42s %10s %17s %9s %8s\n", "", "tokens/s", "slowest-fastest", "GB/s", "of roof");
  for (const Row& row : rows) {
    std::printf("%-42s %10.1f %8.1f-%-8.1f", row.name.c_str(), row.tokens_per_second, row.slowest, row.fastest);
    if (row.bytes_per_second > 0)
      std::printf(" %9.1f %7.0f%%", row.bytes_per_second * 1e-9, 100 * row.bytes_per_second / roof);
    std::printf("\n");
  }
  return absl::OkStatus();
}

}  // namespace

void AddBench(CLI::App* app, Chosen* chosen) {
  auto* command =
      app->add_subcommand("bench", "Speed of a model file on this machine, beside the measured memory roof");
  command->footer("Example: conclave bench --model llama.gguf --threads 2");
  auto a = std::make_shared<Arguments>();
  a->engine.Add(command);
  AddOutputFlags(command, &a->output);
  command->add_option("--repeats", a->repeats, "Measurements of each row")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  command->callback([=] { chosen->action = [=] { return Report(Bench(*a)); }; });
}

}  // namespace conclave::cli
