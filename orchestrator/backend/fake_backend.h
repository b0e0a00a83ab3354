// SPDX-License-Identifier: Apache-2.0
// A backend that a test plays: answers from a function, at once or after a virtual delay that the test lets pass.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"
#include "orchestrator/backend/backend.h"

namespace conclave::orchestrator {

struct FakeAnswer {
  CallOutcome outcome = {};
  std::vector<std::string> deltas = {};  // told first, when the call streams
  // Of the deltas, where they are asked for: one list each, whatever number was asked for.
  std::vector<std::vector<inference::v1::Logprobs>> logprobs = {};
  int64_t delay_ns = 0;  // 0: inside Start. Otherwise when Advance has passed it
};

// OK with this text and a plausible usage.
FakeAnswer Says(std::string text, int64_t delay_ns = 0);
FakeAnswer Fails(absl::Status status, bool retryable, int64_t delay_ns = 0);

// Thread-safe. Answers with equal times arrive in the order of the calls. Destroyed only when nothing is outstanding.
class FakeBackend final : public Backend {
 public:
  using AnswerFunction = std::function<FakeAnswer(const CallRequest&)>;
  FakeBackend(std::vector<std::string> members, AnswerFunction answer);

  void Start(CallRequest request, CallSink* sink) override;
  // Ends a waiting call with CANCELLED and the usage its answer would have had.
  void Cancel(CallId id) override;
  std::vector<MemberFacts> Describe() const override;
  // Of all members. Before anybody asks.
  void set_abilities(const MemberAbilities& abilities) { abilities_ = abilities; }

  // Lets virtual time pass; answers that became due arrive inside, in order of their times. Answers may start calls.
  void Advance(int64_t ns);
  // Calls that were started, in order.
  std::vector<CallRequest> started() const;
  int32_t outstanding() const;
  int32_t cancelled() const;
  // Waits until so many calls were started in all.
  void AwaitStarted(size_t count) const;

 private:
  struct Waiting {
    CallSink* sink = nullptr;
    CallId id = 0;
    FakeAnswer answer;
    bool stream = false;
    bool logprobs = false;
  };
  static void Deliver(Waiting waiting);

  const std::vector<std::string> members_;
  const AnswerFunction answer_;
  MemberAbilities abilities_;
  mutable Mutex mutex_;
  mutable CondVar changed_;
  int64_t now_ns_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<CallRequest> started_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<int64_t, size_t>, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);  // by (due time, order)
  int32_t cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace conclave::orchestrator
