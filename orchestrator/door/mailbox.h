// SPDX-License-Identifier: Apache-2.0
// Between those who speak (loop threads, backends) and the one thread that sends their words to a caller.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "common/mutex.h"
#include "conclave/inference/v1/inference.pb.h"

namespace conclave::orchestrator {

// Work of one choice, every call of a deliberation included.
struct SpokenTokens {
  int64_t prompt = 0;
  int64_t cached = 0;  // of these
  int64_t output = 0;
  int64_t hidden = 0;  // of these: not the words that the caller sees
};

struct SpokenEnd {
  absl::Status status;
  bool cut = false;  // by a limit of tokens or a budget
  SpokenTokens tokens;
};

// A token of a choice's text.
struct SpokenToken {
  inference::v1::Logprobs at;  // its place: itself and the best, with texts
  int64_t offset = 0;          // characters of the choice's text before it
};

// New words of a choice, or its end.
struct Spoken {
  int32_t choice = 0;
  std::string text;
  std::vector<SpokenToken> tokens;  // where they are wanted
  std::optional<SpokenEnd> end;
};

// Thread-safe. Never blocks those who speak: what waits is bounded by what members may write.
class Mailbox {
 public:
  explicit Mailbox(int32_t choices) : waiting_(static_cast<size_t>(choices)) {}

  void Say(int32_t choice, std::string_view text, std::vector<SpokenToken> tokens = {});
  // Once per choice, last.
  void End(int32_t choice, SpokenEnd end);
  // Everything new of one choice, in the order in which choices had something new. nullopt: nothing came in time.
  std::optional<Spoken> Take(int64_t wait_ns);

 private:
  struct Waiting {
    std::string text;
    std::vector<SpokenToken> tokens;
    std::optional<SpokenEnd> end;
    bool queued = false;
  };
  void Queue(int32_t choice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  CondVar changed_;
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  std::deque<int32_t> order_ ABSL_GUARDED_BY(mutex_);
};

// Cuts words at the first of some texts, which is no part of them, as they come.
class StopCutter {
 public:
  explicit StopCutter(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  // What is certain to come before any stop.
  std::string Push(std::string_view text);
  // What was held back because it could have been the beginning of one.
  std::string Finish();
  bool cut() const { return cut_; }

 private:
  const std::vector<std::string> stops_;
  std::string held_;
  bool cut_ = false;
};

}  // namespace conclave::orchestrator
