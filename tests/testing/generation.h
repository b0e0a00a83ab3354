// SPDX-License-Identifier: Apache-2.0
// A sink that collects what a request gives and lets a test wait for its end.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "engine/engine.h"

namespace conclave::testing {

class Generation final : public engine::GenerateSink {
 public:
  struct Sample {
    std::string text;
    std::vector<engine::TokenId> tokens;
    std::vector<engine::TokenLogprob> logprobs;
    std::vector<std::vector<engine::TokenLogprob>> top_logprobs;
    std::optional<engine::FinishReason> finished;
    std::string stop_match;
    int deltas = 0;
  };

  // Pauses the request after each delta from the n-th on (0: never), until the test resumes it.
  explicit Generation(int pause_after_deltas = 0) : pause_after_deltas_(pause_after_deltas) {}

  void OnStarted(int64_t /*prompt_tokens*/, int64_t /*cached_prompt_tokens*/) override {
    MutexLock lock(&mutex_);
    started_ = true;
    changed_.SignalAll();
  }
  bool OnDelta(engine::SampleDelta delta) override {
    MutexLock lock(&mutex_);
    Sample& sample = samples_[delta.sample];
    sample.text += delta.text;
    sample.tokens.insert(sample.tokens.end(), delta.tokens.begin(), delta.tokens.end());
    sample.logprobs.insert(sample.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
    sample.top_logprobs.insert(sample.top_logprobs.end(), delta.top_logprobs.begin(), delta.top_logprobs.end());
    if (delta.finished.has_value()) sample.finished = delta.finished;
    sample.stop_match += delta.stop_match;
    ++sample.deltas;
    ++deltas_;
    changed_.SignalAll();
    return pause_after_deltas_ == 0 || deltas_ < pause_after_deltas_;
  }
  void OnDone(const absl::Status& status, const engine::Usage& usage) override {
    MutexLock lock(&mutex_);
    status_ = status;
    usage_ = usage;
    done_ = true;
    ++times_done_;
    changed_.SignalAll();
  }

  // Blocks until the request has ended; then everything may be read.
  Generation& Wait() {
    MutexLock lock(&mutex_);
    while (!done_) changed_.Wait(&mutex_);
    return *this;
  }
  // Blocks until `count` deltas came or the request ended.
  void WaitForDeltas(int count) {
    MutexLock lock(&mutex_);
    while (!done_ && deltas_ < count) changed_.Wait(&mutex_);
  }
  int deltas() const {
    MutexLock lock(&mutex_);
    return deltas_;
  }
  int times_done() const {
    MutexLock lock(&mutex_);
    return times_done_;
  }
  bool done() const {
    MutexLock lock(&mutex_);
    return done_;
  }

  // REQUIRES: Wait() returned.
  const absl::Status& status() const { return status_; }
  const engine::Usage& usage() const { return usage_; }
  const Sample& sample(int32_t index = 0) const { return samples_.at(index); }
  size_t num_samples() const { return samples_.size(); }

 private:
  const int pause_after_deltas_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<int32_t, Sample> samples_;
  absl::Status status_;
  engine::Usage usage_;
  int times_done_ = 0;
  bool started_ = false, done_ = false;
  int deltas_ = 0;
};

// `count` most likely tokens after the prompt, end tokens or not.
inline std::vector<engine::TokenId> Greedy(engine::Engine& engine, const std::vector<engine::TokenId>& prompt,
                                           size_t count) {
  engine::GenerateRequest request;
  request.prompt = prompt;
  request.sampling.temperature = 0;
  request.stopping.output_tokens_max = static_cast<int32_t>(count);
  request.stopping.ignore_end_of_sequence = true;
  auto generation = std::make_shared<Generation>();
  const auto submitted = engine.Submit(request, generation);
  if (!submitted.ok() || !generation->Wait().status().ok()) return {};
  return generation->sample().tokens;
}

}  // namespace conclave::testing
