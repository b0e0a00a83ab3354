// SPDX-License-Identifier: Apache-2.0
// --device, --kernel, --threads and --ranks for everything that runs a model in this process.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"

namespace conclave::cli {

struct EngineFlags {
  std::string model;
  std::string device = "cpu";
  std::string kernel = "auto";
  int32_t threads = 0;
  int32_t ranks = 1;
  int64_t kv_bytes = int64_t{256} << 20;
  bool tokenizer_optional = false;  // for commands that take and give token ids

  void Add(CLI::App* command, bool model_required = true);
  // Loads the model, or says why not.
  absl::StatusOr<std::unique_ptr<engine::Engine>> Load() const;
};

// "~/" at the start of a path becomes the home directory.
std::string ExpandHome(const std::string& path);

// "1,2,3", or "@FILE" with one JSON array. INVALID_ARGUMENT names the place.
absl::StatusOr<std::vector<engine::TokenId>> ParseTokens(const std::string& argument);

// One finished sample of a blocking Generate.
struct Completion {
  std::string text;
  std::vector<engine::TokenId> tokens;
  std::vector<engine::TokenLogprob> logprobs;
  engine::FinishReason finish = engine::FinishReason::kFailed;
};
struct GenerateResult {
  std::vector<Completion> samples;
  engine::Usage usage;
};

// Submits and waits. `on_text` (may be empty) sees each new piece of sample 0 as it comes.
absl::StatusOr<GenerateResult> GenerateBlocking(engine::Engine& engine, engine::GenerateRequest request,
                                                const std::function<void(std::string_view)>& on_text = {});

// Submits and waits.
absl::StatusOr<engine::ScoreResult> ScoreBlocking(engine::Engine& engine, engine::ScoreRequest request);

}  // namespace conclave::cli
