// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/speakers.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>

#include "common/hash.h"
#include "common/mutex.h"
#include "common/status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

// The executor counts its calls from 1; those of this room are told apart by the highest bit.
CallId NextDirectCall() {
  static std::atomic<uint64_t> calls{0};
  return (uint64_t{1} << 63) | ++calls;
}

class MemberSpeaker final : public Speaker, public CallSink, public std::enable_shared_from_this<MemberSpeaker> {
 public:
  MemberSpeaker(Backend* backend, CallRequest request, Listener listener)
      : backend_(backend), request_(std::move(request)), teller_(std::move(listener)) {}

  void Start() {
    CallRequest request = request_;
    request.id = NextDirectCall();
    {
      MutexLock lock(&mutex_);
      call_ = request.id;
      self_ = shared_from_this();
    }
    const CallId call = request.id;
    backend_->Start(std::move(request), this);
    bool cancelled = false;
    {
      MutexLock lock(&mutex_);
      cancelled = cancelled_;
    }
    if (cancelled) backend_->Cancel(call);  // between two attempts
  }

  void Cancel() override {
    CallId call = 0;
    {
      MutexLock lock(&mutex_);
      cancelled_ = true;
      call = call_;
    }
    backend_->Cancel(call);
  }

  // ---- CallSink
  void OnDelta(CallId, CallDelta delta) override {
    heard_ = true;
    for (const inference::v1::Logprobs& token : delta.logprobs) teller_.Hear(token);
    teller_.Say(delta.text);
  }
  void OnDone(CallId, CallOutcome outcome) override {
    std::shared_ptr<MemberSpeaker> self;
    bool again = false;
    {
      MutexLock lock(&mutex_);
      self = std::move(self_);
      again = !outcome.status.ok() && outcome.retryable && !heard_ && !cancelled_ && retries_ < kDirectRetriesMax;
      if (again) ++retries_;
      tokens_.prompt += outcome.usage.prompt_token_count();
      tokens_.cached += outcome.usage.cached_prompt_token_count();
      tokens_.output += outcome.usage.output_token_count();
      if (again) tokens_.hidden = tokens_.output;
    }
    if (again) return Start();
    SpokenEnd end;
    end.status = outcome.status;
    end.cut = outcome.finish_reason == inference::v1::FINISH_REASON_LENGTH;
    {
      MutexLock lock(&mutex_);
      end.tokens = tokens_;
    }
    // A backend that does not stream says everything at its end.
    if (outcome.status.ok() && !heard_) teller_.Say(outcome.text);
    if (outcome.status.ok()) end.status = teller_.Finish();
    teller_.End(std::move(end));
  }

 private:
  Backend* const backend_;
  const CallRequest request_;
  Teller teller_;  // of the one thread that a backend tells from
  std::atomic<bool> heard_ = false;
  Mutex mutex_;
  std::shared_ptr<MemberSpeaker> self_ ABSL_GUARDED_BY(mutex_);  // while a call runs
  CallId call_ ABSL_GUARDED_BY(mutex_) = 0;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  int32_t retries_ ABSL_GUARDED_BY(mutex_) = 0;
  SpokenTokens tokens_ ABSL_GUARDED_BY(mutex_);
};

class GraphSpeaker final : public Speaker, public RunObserver, public std::enable_shared_from_this<GraphSpeaker> {
 public:
  GraphSpeaker(Executor* executor, const CompiledNode& result, std::vector<std::string> stops, Listener listener)
      : executor_(executor),
        result_(result.name),
        may_be_live_(result.kind == NodeKind::kSpeak && result.role->proto.repair().empty()),
        teller_(std::move(listener)),
        stops_(std::move(stops)) {}

  void Start(NewRun run) {
    executor_->StartRun(std::move(run), shared_from_this(),
                        [self = shared_from_this()](absl::StatusOr<StartedRun> started) {
                          if (!started.ok()) return self->OnEnd(started.status());
                          bool cancelled = false;
                          {
                            MutexLock lock(&self->mutex_);
                            self->run_id_ = started->run_id;
                            cancelled = self->cancelled_;
                          }
                          if (cancelled) self->CancelRun(started->run_id);
                        });
  }

  void Cancel() override {
    std::string run_id;
    {
      MutexLock lock(&mutex_);
      cancelled_ = true;
      run_id = run_id_;
    }
    if (!run_id.empty()) CancelRun(run_id);
  }

  // ---- RunObserver: one thread at a time.
  void OnEvent(const std::shared_ptr<const pb::Event>& event) override {
    if (event->has_node_started() && event->node_path() == result_) {
      live_ = may_be_live_ && event->node_started().kind() == "speak" && event->node_started().call_count() == 1;
    } else if (event->has_token_delta() && live_ && event->node_path() == result_) {
      Hear(event->token_delta());
    } else if (event->has_call_lost() && event->call_lost().will_retry() && event->node_path() == result_) {
      goes_on_from_ = event->call_lost().partial().text();
    } else if (event->has_call_finished()) {
      const pb::CallFinished& call = event->call_finished();
      tokens_of_[Fnv1a64(call.text())] = call.usage().output_token_count();
    } else if (event->has_run_finished()) {
      Finish(event->run_finished());
    }
  }
  void OnEnd(const absl::Status& status) override {
    if (std::exchange(ended_, true)) return;
    End({.status = status.ok() ? Internal("the run ended without a result") : status, .cut = false, .tokens = {}});
  }

 private:
  // A call that was lost goes on where it stopped, or begins again with the same seed, and a second call of a straggler
  // speaks beside the first: what was told already is compared and not told twice.
  void Hear(const pb::TokenDelta& delta) {
    const auto [it, fresh] = attempts_.try_emplace(delta.key().attempt());
    Attempt& attempt = it->second;
    if (fresh) attempt.text = goes_on_from_;
    for (const inference::v1::Logprobs& token : delta.logprobs()) {
      if (++attempt.tokens <= tokens_heard_) continue;
      ++tokens_heard_;
      teller_.Hear(token);
    }
    attempt.text += delta.text();
    Tell(attempt.text);
  }

  // `text` from its beginning.
  void Tell(std::string_view text) {
    const size_t common = std::min(text.size(), told_.size());
    differs_ |= text.substr(0, common) != std::string_view(told_).substr(0, common);
    if (differs_ || text.size() <= told_.size()) return;
    const std::string_view fresh = text.substr(told_.size());
    teller_.Say(stops_.Push(fresh));
    told_ += fresh;
  }

  void Finish(const pb::RunFinished& finished) {
    if (std::exchange(ended_, true)) return;
    SpokenEnd end;
    end.cut = finished.best_effort();
    end.tokens = {finished.ledger().prompt_tokens(), finished.ledger().cached_tokens(),
                  finished.ledger().output_tokens(), finished.ledger().output_tokens()};
    if (finished.state() == pb::RUN_STATE_SUCCEEDED) {
      // What was told can only be the beginning of the result.
      if (finished.text().size() < told_.size()) differs_ = true;
      Tell(finished.text());
      teller_.Say(stops_.Finish());
      end.status = teller_.Finish();
      if (const auto it = tokens_of_.find(Fnv1a64(finished.text())); it != tokens_of_.end()) {
        end.tokens.hidden -= it->second;
      }
      if (differs_) end.status = Unavailable("the speaker was lost in the middle of its words; ask again");
    } else if (finished.state() == pb::RUN_STATE_CANCELLED) {
      end.status = Cancelled("the run was cancelled");
    } else {
      end.status = MakeStatus(static_cast<absl::StatusCode>(finished.code()), finished.message());
    }
    End(std::move(end));
  }

  void End(SpokenEnd end) { teller_.End(std::move(end)); }

  void CancelRun(const std::string& run_id) {
    executor_->CancelRun(run_id, [](const auto&) {});
  }

  Executor* const executor_;
  const std::string result_;
  const bool may_be_live_;  // else the words may be asked for once more, in other words
  Mutex mutex_;
  std::string run_id_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  // ---- Of the observer's thread.
  struct Attempt {
    std::string text;  // from its beginning
    int64_t tokens = 0;
  };
  Teller teller_;
  StopCutter stops_;
  std::map<uint64_t, int64_t> tokens_of_;  // by hash of a call's text
  bool live_ = false;
  bool differs_ = false;
  bool ended_ = false;
  std::map<int32_t, Attempt> attempts_;
  int64_t tokens_heard_ = 0;
  std::string goes_on_from_;  // what the next attempt's first words follow
  std::string told_;          // before stops cut it
};

}  // namespace

std::shared_ptr<Speaker> AskMember(Backend* backend, CallRequest request, Listener listener) {
  request.stream_tokens = true;
  auto speaker = std::make_shared<MemberSpeaker>(backend, std::move(request), std::move(listener));
  speaker->Start();
  return speaker;
}

std::shared_ptr<Speaker> AskGraph(Executor* executor, NewRun run, std::vector<std::string> stops, Listener listener) {
  run.request.set_stream_tokens(true);
  auto speaker = std::make_shared<GraphSpeaker>(executor, run.graph->node(run.graph->result()), std::move(stops),
                                                std::move(listener));
  speaker->Start(std::move(run));
  return speaker;
}

}  // namespace conclave::orchestrator
