// SPDX-License-Identifier: Apache-2.0
// An engine over a tiny random model, and requests that are easy to compare.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "common/hash.h"
#include "engine/engine.h"
#include "tests/testing/generation.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"

namespace conclave::testing {

class TinyEngine {
 public:
  explicit TinyEngine(engine::EngineOptions options = Options(), const TinyModelOptions& model = {}) {
    options.model_path = folder_.Path("tiny.gguf");
    TinyModel(model).Write(options.model_path);
    auto created = engine::Engine::Create(options);
    EXPECT_OK(created);
    if (created.ok()) engine_ = *std::move(created);
  }
  engine::Engine* operator->() const { return engine_.get(); }
  void Stop() { engine_.reset(); }

  static engine::EngineOptions Options() {
    engine::EngineOptions options;
    options.kernel = "scalar";
    options.threads = 1;
    options.kv_bytes = 4 << 20;
    return options;
  }

  // A prompt of `length` tokens and its own sampling, chosen by `number`.
  static engine::GenerateRequest Request(uint64_t number, int32_t length, int32_t output_tokens) {
    engine::GenerateRequest request;
    for (int32_t i = 0; i < length; ++i) {
      request.prompt.push_back(static_cast<engine::TokenId>(PhiloxUniform(number, 9, i) * 256));
    }
    request.seed = number;
    request.sampling.temperature = number % 3 == 0 ? 0.0f : 1.0f;
    request.sampling.top_k = number % 4 == 1 ? 40 : 0;
    request.sampling.frequency_penalty = number % 5 == 2 ? 0.5f : 0.0f;
    request.stopping.output_tokens_max = output_tokens;
    request.stopping.ignore_end_of_sequence = true;
    return request;
  }

  std::shared_ptr<Generation> Submit(engine::GenerateRequest request, int pause_after_deltas = 0) const {
    auto generation = std::make_shared<Generation>(pause_after_deltas);
    const auto id = engine_->Submit(std::move(request), generation);
    EXPECT_OK(id);
    return generation;
  }
  // The tokens of a request of one sample that has the engine for itself.
  std::vector<engine::TokenId> Alone(engine::GenerateRequest request) const {
    const auto generation = Submit(std::move(request));
    EXPECT_OK(generation->Wait().status());
    return generation->sample(0).tokens;
  }

 private:
  TempDir folder_;
  std::unique_ptr<engine::Engine> engine_;
};

}  // namespace conclave::testing
