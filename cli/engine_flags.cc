// SPDX-License-Identifier: Apache-2.0
#include "cli/engine_flags.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>

#include "absl/synchronization/notification.h"
#include "common/file.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

// Gathers a request's deltas; the waiting thread reads them after `done`.
class GatheringSink final : public engine::GenerateSink {
 public:
  GatheringSink(int32_t samples, std::function<void(std::string_view)> on_text)
      : on_text_(std::move(on_text)), samples_(samples) {}

  void OnStarted(int64_t, int64_t) override {}
  bool OnDelta(engine::SampleDelta delta) override {
    Completion& sample = samples_[delta.sample];
    sample.text += delta.text;
    sample.tokens.insert(sample.tokens.end(), delta.tokens.begin(), delta.tokens.end());
    sample.logprobs.insert(sample.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
    if (delta.finished) sample.finish = *delta.finished;
    if (on_text_ && delta.sample == 0 && !delta.text.empty()) on_text_(delta.text);
    return true;
  }
  void OnDone(const absl::Status& status, const engine::Usage& usage) override {
    status_ = status;
    usage_ = usage;
    done_.Notify();
  }

  absl::StatusOr<GenerateResult> Wait() {
    done_.WaitForNotification();
    if (!status_.ok()) return status_;
    return GenerateResult{std::move(samples_), usage_};
  }

 private:
  const std::function<void(std::string_view)> on_text_;
  std::vector<Completion> samples_;
  absl::Status status_;
  engine::Usage usage_;
  absl::Notification done_;
};

}  // namespace

void EngineFlags::Add(CLI::App* command, bool model_required) {
  auto* option = command->add_option("--model", model, "GGUF file or Hugging Face directory");
  if (model_required) option->required();
  command->add_option("--device", device, "cpu, or cuda for the first GPU")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command->add_option("--kernel", kernel, "reference, scalar, avx2, avx512 or auto")->capture_default_str();
  command->add_option("--threads", threads, "Threads; 0: one per core")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  command->add_option("--ranks", ranks, "Split the model into as many parts, computed together; on CPUs only")
      ->capture_default_str();
  command->add_option("--kv-bytes", kv_bytes, "Memory for the key/value cache of each rank, in bytes")
      ->capture_default_str();
}

absl::StatusOr<std::unique_ptr<engine::Engine>> EngineFlags::Load() const {
  if (device == "cuda" && kernel != "auto") {
    return InvalidArgument("--kernel {} is for --device cpu; leave it out with --device cuda", kernel);
  }
  engine::EngineOptions options;
  options.model_path = ExpandHome(model);
  options.tokenizer_optional = tokenizer_optional;
  options.kernel = device == "cuda" ? "cuda" : kernel;
  options.threads = threads;
  options.ranks = ranks;
  options.kv_bytes = kv_bytes;
  int64_t shown = -1;
  if (isatty(STDERR_FILENO) != 0) {
    options.on_load = [&shown](int64_t bytes, int64_t total) {
      constexpr int64_t kShownLoadBytesMin = 256 << 20;  // smaller models are there before one could read it
      if (total < kShownLoadBytesMin || bytes * 100 / total == shown) return;
      shown = bytes * 100 / total;
      std::fprintf(stderr, "\rloading: %3d %% of %.1f GB", static_cast<int>(shown), static_cast<double>(total) * 1e-9);
    };
  }
  auto engine = engine::Engine::Create(options);
  if (shown >= 0) std::fprintf(stderr, "\r\x1b[K");  // the line is for the answer
  return engine;
}

std::string ExpandHome(const std::string& path) {
  const char* home = std::getenv("HOME");
  return path.starts_with("~/") && home != nullptr ? std::string(home) + path.substr(1) : path;
}

absl::StatusOr<std::vector<engine::TokenId>> ParseTokens(const std::string& argument) {
  std::string text = argument;
  std::string where = "--tokens";
  if (argument.starts_with("@")) {
    where = argument.substr(1);
    ASSIGN_OR_RETURN(text, ReadFile(where, int64_t{64} << 20));
  } else {
    text = "[" + text + "]";
  }
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) return InvalidArgument("{}: expected token ids, e.g. 1,2,3 or one JSON array", where);
  std::vector<engine::TokenId> tokens;
  for (const auto& value : json) {
    if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > INT32_MAX) {
      return InvalidArgument("{}: entry {} is not a token id: {}", where, tokens.size(), value.dump());
    }
    tokens.push_back(value.get<int32_t>());
  }
  return tokens;
}

absl::StatusOr<GenerateResult> GenerateBlocking(engine::Engine& engine, engine::GenerateRequest request,
                                                const std::function<void(std::string_view)>& on_text) {
  auto sink = std::make_shared<GatheringSink>(request.samples, on_text);
  RETURN_IF_ERROR(engine.Submit(std::move(request), sink).status());
  return sink->Wait();
}

absl::StatusOr<engine::ScoreResult> ScoreBlocking(engine::Engine& engine, engine::ScoreRequest request) {
  struct Shared {
    absl::Notification done;
    absl::StatusOr<engine::ScoreResult> result = absl::UnknownError("");
  };
  auto shared = std::make_shared<Shared>();
  RETURN_IF_ERROR(engine.Score(std::move(request), [shared](absl::StatusOr<engine::ScoreResult> result) {
    shared->result = std::move(result);
    shared->done.Notify();
  }));
  shared->done.WaitForNotification();
  return std::move(shared->result);
}

}  // namespace conclave::cli
