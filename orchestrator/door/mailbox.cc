// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/mailbox.h"

#include <algorithm>
#include <utility>

namespace conclave::orchestrator {

void Mailbox::Queue(int32_t choice) {
  if (!std::exchange(waiting_[static_cast<size_t>(choice)].queued, true)) order_.push_back(choice);
  changed_.Signal();
}

void Mailbox::Say(int32_t choice, std::string_view text, std::vector<SpokenToken> tokens) {
  if (text.empty() && tokens.empty()) return;
  MutexLock lock(&mutex_);
  Waiting& waiting = waiting_[static_cast<size_t>(choice)];
  waiting.text += text;
  std::move(tokens.begin(), tokens.end(), std::back_inserter(waiting.tokens));
  Queue(choice);
}

void Mailbox::End(int32_t choice, SpokenEnd end) {
  MutexLock lock(&mutex_);
  waiting_[static_cast<size_t>(choice)].end = std::move(end);
  Queue(choice);
}

std::optional<Spoken> Mailbox::Take(int64_t wait_ns) {
  MutexLock lock(&mutex_);
  if (order_.empty() && wait_ns > 0) changed_.WaitWithTimeout(&mutex_, wait_ns);
  if (order_.empty()) return std::nullopt;
  const int32_t choice = order_.front();
  order_.pop_front();
  Waiting& waiting = waiting_[static_cast<size_t>(choice)];
  waiting.queued = false;
  return Spoken{choice, std::exchange(waiting.text, {}), std::exchange(waiting.tokens, {}),
                std::exchange(waiting.end, std::nullopt)};
}

std::string StopCutter::Push(std::string_view text) {
  if (cut_) return "";
  held_ += text;
  size_t first = held_.size(), keep = 0;
  for (const std::string& stop : stops_) {
    first = std::min(first, held_.find(stop));
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
      if (held_.ends_with(std::string_view(stop).substr(0, length))) keep = length;
    }
  }
  cut_ = first < held_.size();
  const size_t sure = cut_ ? first : held_.size() - keep;
  std::string out = held_.substr(0, sure);
  held_.erase(0, sure);
  return out;
}

std::string StopCutter::Finish() { return cut_ ? "" : std::exchange(held_, {}); }

}  // namespace conclave::orchestrator
