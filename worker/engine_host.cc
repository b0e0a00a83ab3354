// SPDX-License-Identifier: Apache-2.0
// ModelHost over the real engine: nothing but forwarding, and the name callers use.
#include <algorithm>
#include <utility>

#include "worker/model_host.h"

namespace conclave::worker {
namespace {

// Callers name models in flags, files and log lines: one word, printable.
std::string OneWord(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return c <= ' ' || c == 0x7F || c == '"'; }, '-');
  return name;
}

class EngineHost final : public ModelHost {
 public:
  EngineHost(std::unique_ptr<engine::Engine> engine, std::string_view name)
      : engine_(std::move(engine)), info_(engine_->info()) {
    info_.name = OneWord(name.empty() ? info_.name : std::string(name));
  }

  const engine::ModelInfo& info() const override { return info_; }

  absl::StatusOr<std::vector<engine::TokenId>> Tokenize(std::string_view text, TextPart part) const override {
    return engine_->Tokenize(text, engine::Engine::SpecialTokens::kAsText, part == TextPart::kWhole);
  }
  std::string Detokenize(std::span<const engine::TokenId> tokens) const override { return engine_->Detokenize(tokens); }
  engine::TokenText TextOf(engine::TokenId token) const override { return engine_->TextOf(token); }
  absl::StatusOr<engine::Engine::ChatPrompt> ApplyChatTemplate(std::span<const engine::ChatMessage> messages,
                                                               bool generation_prompt,
                                                               int64_t now_unix_seconds) const override {
    return engine_->ApplyChatTemplate(messages, generation_prompt, now_unix_seconds);
  }

  absl::StatusOr<engine::RequestId> Submit(engine::GenerateRequest request,
                                           std::shared_ptr<engine::GenerateSink> sink) override {
    return engine_->Submit(std::move(request), std::move(sink));
  }
  void Cancel(engine::RequestId id) override { engine_->Cancel(id); }
  void Resume(engine::RequestId id) override { engine_->Resume(id); }
  absl::Status Score(engine::ScoreRequest request,
                     std::function<void(absl::StatusOr<engine::ScoreResult>)> done) override {
    return engine_->Score(std::move(request), std::move(done));
  }
  absl::Status Pin(engine::PinRequest request, std::function<void(absl::StatusOr<engine::PinResult>)> done) override {
    return engine_->Pin(std::move(request), std::move(done));
  }
  void Unpin(engine::PinId id) override { engine_->Unpin(id); }

  engine::EngineLoad load() const override { return engine_->load(); }
  void Drain() override { engine_->Drain(); }

 private:
  const std::unique_ptr<engine::Engine> engine_;
  engine::ModelInfo info_;
};

}  // namespace

std::unique_ptr<ModelHost> MakeEngineHost(std::unique_ptr<engine::Engine> engine, std::string_view name) {
  return std::make_unique<EngineHost>(std::move(engine), name);
}

}  // namespace conclave::worker
