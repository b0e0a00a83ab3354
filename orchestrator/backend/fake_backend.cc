// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/fake_backend.h"

#include "common/status.h"

namespace conclave::orchestrator {

FakeAnswer Says(std::string text, int64_t delay_ns) {
  FakeAnswer answer{.delay_ns = delay_ns};
  answer.outcome.usage.set_prompt_token_count(10);
  answer.outcome.usage.set_output_token_count(static_cast<int64_t>(text.size()));
  answer.outcome.text = std::move(text);
  answer.outcome.finish_reason = inference::v1::FINISH_REASON_STOP;
  answer.outcome.instance_id = "fake";
  return answer;
}

FakeAnswer Fails(absl::Status status, bool retryable, int64_t delay_ns) {
  FakeAnswer answer{.delay_ns = delay_ns};
  answer.outcome.status = std::move(status);
  answer.outcome.retryable = retryable;
  return answer;
}

FakeBackend::FakeBackend(std::vector<std::string> members, AnswerFunction answer)
    : members_(std::move(members)), answer_(std::move(answer)) {}

void FakeBackend::Start(CallRequest request, CallSink* sink) {
  Waiting waiting{sink, request.id, answer_(request), request.stream_tokens, request.logprobs.has_value()};
  {
    MutexLock lock(&mutex_);
    started_.push_back(std::move(request));
    changed_.SignalAll();
    if (waiting.answer.delay_ns > 0) {
      const int64_t due = now_ns_ + waiting.answer.delay_ns;
      waiting_.emplace(std::pair(due, started_.size()), std::move(waiting));
      return;
    }
  }
  Deliver(std::move(waiting));
}

void FakeBackend::Deliver(Waiting waiting) {
  if (waiting.stream) {
    for (size_t i = 0; i < waiting.answer.deltas.size(); ++i) {
      CallDelta delta = {std::move(waiting.answer.deltas[i]), 1};
      if (waiting.logprobs && i < waiting.answer.logprobs.size()) delta.logprobs = waiting.answer.logprobs[i];
      waiting.sink->OnDelta(waiting.id, std::move(delta));
    }
  }
  waiting.sink->OnDone(waiting.id, std::move(waiting.answer.outcome));
}

void FakeBackend::Cancel(CallId id) {
  Waiting waiting;
  {
    MutexLock lock(&mutex_);
    auto it = waiting_.begin();
    while (it != waiting_.end() && it->second.id != id) ++it;
    if (it == waiting_.end()) return;
    waiting = std::move(it->second);
    waiting_.erase(it);
    ++cancelled_;
  }
  waiting.stream = false;
  waiting.answer.outcome.status = Cancelled("cancelled");
  waiting.answer.outcome.retryable = false;
  Deliver(std::move(waiting));
}

std::vector<MemberFacts> FakeBackend::Describe() const {
  std::vector<MemberFacts> out;
  for (const std::string& member : members_) {
    out.push_back(
        {.name = member, .backend = "fake", .location = "memory", .available = true, .abilities = abilities_});
  }
  return out;
}

void FakeBackend::Advance(int64_t ns) {
  int64_t until = 0;
  {
    MutexLock lock(&mutex_);
    until = now_ns_ + ns;
  }
  while (true) {
    Waiting due;
    {
      MutexLock lock(&mutex_);
      if (waiting_.empty() || waiting_.begin()->first.first > until) {
        now_ns_ = until;
        return;
      }
      now_ns_ = waiting_.begin()->first.first;
      due = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
    }
    Deliver(std::move(due));
  }
}

std::vector<CallRequest> FakeBackend::started() const {
  MutexLock lock(&mutex_);
  return started_;
}
int32_t FakeBackend::outstanding() const {
  MutexLock lock(&mutex_);
  return static_cast<int32_t>(waiting_.size());
}
int32_t FakeBackend::cancelled() const {
  MutexLock lock(&mutex_);
  return cancelled_;
}
void FakeBackend::AwaitStarted(size_t count) const {
  MutexLock lock(&mutex_);
  while (started_.size() < count) changed_.Wait(&mutex_);
}

}  // namespace conclave::orchestrator
