// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/openai_backend.h"

#include <algorithm>
#include <deque>
#include <map>
#include <thread>
#include <utility>

#include "common/hash.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/backend/openai_wire.h"
#include "orchestrator/http/http_client.h"
#include "orchestrator/http/sse.h"
#include "orchestrator/ledger/cost.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

constexpr size_t kErrorBodyBytesMax = 16 << 10;
constexpr std::string_view kNotConnected = "NOT_CONNECTED";

// How one attempt ended.
struct Attempt {
  absl::Status status;
  std::optional<int64_t> retry_after_ns;  // the server says when
  bool full = false;                      // nothing was computed: it may be tried again unseen
  bool spoke = false;                     // some text came
  bool answered = false;                  // or a head at least
};

class OpenAiBackend final : public Backend {
 public:
  OpenAiBackend(std::vector<OpenAiMember> members, std::vector<http::Url> urls, const OpenAiOptions& options)
      : options_(options) {
    for (size_t i = 0; i < members.size(); ++i) {
      std::unique_ptr<Server>& server = servers_[fmt::format("{}:{}", urls[i].host, urls[i].port)];
      if (server == nullptr) server = std::make_unique<Server>(options.breaker);
      auto seat = std::make_unique<Seat>();
      seat->server = server.get();
      seat->member = std::move(members[i]);
      seat->url = std::move(urls[i]);
      by_name_[seat->member.name] = seat.get();
      seats_.push_back(std::move(seat));
    }
  }

  ~OpenAiBackend() override {
    std::vector<std::thread> threads;
    {
      MutexLock lock(&mutex_);
      ending_ = true;
      changed_.SignalAll();
      for (const auto& [id, call] : calls_) call->StopLocked();
      for (const auto& seat : seats_) {
        std::move(seat->threads.begin(), seat->threads.end(), std::back_inserter(threads));
      }
    }
    for (std::thread& thread : threads) thread.join();
  }

  void Start(CallRequest request, CallSink* sink) override {
    const CallId id = request.id;
    const auto found = by_name_.find(request.member);
    absl::Status refused;
    if (found == by_name_.end()) {
      refused = NotFound("MEMBER_NOT_FOUND: no member \"{}\" among the OpenAI-compatible servers", request.member);
    } else if (request.beside.has_value()) {
      refused = FailedPrecondition("NO_OTHER_WORKER: member \"{}\" has one server", request.member);
    } else if (request.ignore_eos && !found->second->member.abilities.extended_sampling) {
      refused = FailedPrecondition("CAPABILITY_MISSING: member \"{}\" does not honour ignore_eos", request.member);
    } else if (request.p_true.has_value() || request.plain) {
      refused = FailedPrecondition("CAPABILITY_MISSING: member \"{}\" answers chats only", request.member);
    }
    if (!refused.ok()) {
      CallOutcome outcome;
      outcome.status = refused;
      return sink->OnDone(id, std::move(outcome));
    }
    Seat* seat = found->second;
    MutexLock lock(&mutex_);
    auto call = std::make_shared<Call>();
    call->until_ns = options_.clock->NowNs() + (request.timeout_ns > 0 ? request.timeout_ns : options_.call_timeout_ns);
    call->request = std::move(request);
    call->sink = sink;
    calls_[id] = call;
    seat->queue.push_back(std::move(call));
    if (seat->waiting < static_cast<int32_t>(seat->queue.size()) &&
        static_cast<int32_t>(seat->threads.size()) < seat->member.parallel_calls) {
      seat->threads.emplace_back([this, seat] { Work(seat); });
    }
    changed_.SignalAll();
  }

  void Cancel(CallId id) override {
    std::shared_ptr<Call> waiting;
    {
      MutexLock lock(&mutex_);
      const auto it = calls_.find(id);
      if (it == calls_.end()) return;
      it->second->StopLocked();
      Seat* seat = by_name_[it->second->request.member];
      const auto place = std::find(seat->queue.begin(), seat->queue.end(), it->second);
      if (place != seat->queue.end()) {  // not begun: it ends here
        waiting = *place;
        seat->queue.erase(place);
        calls_.erase(it);
      }
      changed_.SignalAll();
    }
    if (waiting == nullptr) return;
    CallOutcome outcome;
    outcome.status = Cancelled("the call was cancelled before it began");
    waiting->sink->OnDone(id, std::move(outcome));
  }

  std::vector<MemberFacts> Describe() const override {
    std::vector<MemberFacts> out;
    MutexLock lock(&mutex_);
    for (const auto& seat : seats_) {
      const OpenAiMember& member = seat->member;
      out.push_back({.name = member.name,
                     .backend = "openai",
                     .location = member.url,
                     .available = !seat->server->breaker.open(),
                     .weight = member.weight,
                     .card = member.card,
                     .abilities = member.abilities});
    }
    return out;
  }

 private:
  struct Call {
    CallRequest request;
    CallSink* sink = nullptr;
    int64_t until_ns = 0;
    // Guarded by the backend's mutex.
    bool stopped = false;
    http::Post* post = nullptr;  // under way

    void StopLocked() {
      stopped = true;
      if (post != nullptr) post->Stop();
    }
  };
  // What members at the same host and port share. Guarded by the backend's mutex.
  struct Server {
    explicit Server(const BreakerOptions& options) : breaker(options) {}
    Breaker breaker;
    std::string last_failure;
  };
  struct Seat {
    Server* server = nullptr;
    OpenAiMember member;
    http::Url url;
    // Guarded by the backend's mutex.
    std::deque<std::shared_ptr<Call>> queue;
    std::vector<std::thread> threads;  // made when needed, kept
    int32_t waiting = 0;               // of them
  };

  void Work(Seat* seat) {
    while (true) {
      std::shared_ptr<Call> call;
      {
        MutexLock lock(&mutex_);
        ++seat->waiting;
        while (seat->queue.empty() && !ending_) changed_.Wait(&mutex_);
        --seat->waiting;
        if (seat->queue.empty()) return;
        call = std::move(seat->queue.front());
        seat->queue.pop_front();
      }
      CallOutcome outcome = Answer(*seat, call.get());
      {
        MutexLock lock(&mutex_);
        calls_.erase(call->request.id);
      }
      call->sink->OnDone(call->request.id, std::move(outcome));
    }
  }

  // Attempts until one counts.
  CallOutcome Answer(const Seat& seat, Call* call) {
    const int64_t reachable_until_ns = std::min(call->until_ns, options_.clock->NowNs() + options_.unreachable_ns);
    int64_t backoff_ns = options_.backoff_ns;
    for (uint64_t attempt = 0;; ++attempt) {
      OpenAiReader reader(call->request.token_trace);
      const auto pass = AwaitPass(seat, call);
      if (!pass.ok()) return Outcome(seat, *call, {.status = pass.status(), .retry_after_ns = {}}, reader);
      const Attempt ended = Try(seat, call, *pass, &reader);
      ReportEnd(seat, *pass, *call, ended);
      const bool not_connected = rpc::Reason(ended.status) == kNotConnected;
      const int64_t until_ns = not_connected ? reachable_until_ns : call->until_ns;
      // Spread over [1, 1.25) of the time, so that calls refused together do not come back together.
      const uint64_t jitter = Mix64(call->request.id ^ (attempt << 32)) >> 34;  // 30 bits
      const int64_t spread_ns =
          static_cast<int64_t>((static_cast<double>(jitter) / (1 << 30)) * 0.25 * static_cast<double>(backoff_ns));
      const int64_t wait_ns = ended.retry_after_ns.value_or(backoff_ns) + spread_ns;
      const bool again = (ended.full || not_connected) && options_.clock->NowNs() + wait_ns < until_ns;
      if (!again) return Outcome(seat, *call, ended, reader);
      backoff_ns = std::min(2 * backoff_ns, options_.backoff_max_ns);
      if (!WaitUnlessStopped(call, wait_ns)) {
        return Outcome(seat, *call, {.status = Cancelled("the call was cancelled"), .retry_after_ns = {}}, reader);
      }
    }
  }

  // Waits while the server is left alone, unless that takes longer than a call waits for one that takes no connection.
  absl::StatusOr<Breaker::Pass> AwaitPass(const Seat& seat, Call* call) {
    const int64_t until_ns = std::min(call->until_ns, options_.clock->NowNs() + options_.unreachable_ns);
    MutexLock lock(&mutex_);
    Breaker& breaker = seat.server->breaker;
    while (!call->stopped) {
      const int64_t now_ns = options_.clock->NowNs();
      if (const Breaker::Pass pass = breaker.Ask(now_ns); pass != Breaker::Pass::kNo) return pass;
      const bool on_trial = breaker.closed_until_ns() <= now_ns;  // which may end any time
      const int64_t wait_until_ns = on_trial ? until_ns : breaker.closed_until_ns();
      if (now_ns >= until_ns || wait_until_ns > until_ns) {
        return Unavailable("SERVER_FAILING: it is left alone after {}, the last: {}", breaker.Why(),
                           seat.server->last_failure);
      }
      changed_.WaitWithTimeout(&mutex_, wait_until_ns - now_ns);
    }
    return Cancelled("the call was cancelled");
  }

  void ReportServing(const Seat& seat, Breaker::Pass pass) {
    MutexLock lock(&mutex_);
    seat.server->breaker.Succeeded(pass);
    changed_.SignalAll();
  }

  // What an attempt's end says of its server. One that spoke has been reported as serving.
  void ReportEnd(const Seat& seat, Breaker::Pass pass, const Call& call, const Attempt& ended) {
    const bool failed = Retryable(ended.status, call) && !ended.full;
    if (!failed && ended.answered && !ended.spoke) return ReportServing(seat, pass);
    MutexLock lock(&mutex_);
    Breaker& breaker = seat.server->breaker;
    if (failed) {
      seat.server->last_failure = std::string(Message(ended.status));
      breaker.Failed(ended.spoke ? Breaker::Pass::kYes : pass, options_.clock->NowNs());
    } else if (!ended.spoke) {
      breaker.Withdrawn(pass);
    }
    changed_.SignalAll();
  }

  // Whether another attempt may fare better: the server failed, was lost or was silent.
  bool Retryable(const absl::Status& status, const Call& call) const {
    switch (status.code()) {
      case absl::StatusCode::kUnavailable:
      case absl::StatusCode::kDataLoss:
      case absl::StatusCode::kInternal:
        return true;
      case absl::StatusCode::kDeadlineExceeded:
        return options_.clock->NowNs() < call.until_ns;  // silence, not the call's own time
      default:
        return false;
    }
  }

  bool WaitUnlessStopped(Call* call, int64_t wait_ns) {
    const int64_t until_ns = options_.clock->NowNs() + wait_ns;
    MutexLock lock(&mutex_);
    while (!call->stopped) {
      const int64_t left_ns = until_ns - options_.clock->NowNs();
      if (left_ns <= 0) return true;
      changed_.WaitWithTimeout(&mutex_, left_ns);
    }
    return false;
  }

  Attempt Try(const Seat& seat, Call* call, Breaker::Pass pass, OpenAiReader* reader) {
    Attempt out;
    const int64_t left_ns = call->until_ns - options_.clock->NowNs();
    if (left_ns <= 0) {
      out.status = DeadlineExceeded("the call's time is over");
      return out;
    }
    auto body = ToOpenAi(call->request, seat.member.model, seat.member.abilities);
    if (!body.ok()) {
      out.status = body.status();
      return out;
    }
    http::PostLimits limits;
    limits.connect_ns = std::min(options_.connect_ns, left_ns);
    limits.silence_ns = std::min(options_.silence_ns, left_ns);
    http::Post post(seat.url, limits, seat.member.authorities, *options_.clock);
    {
      MutexLock lock(&mutex_);
      call->post = &post;
      if (call->stopped) post.Stop();
    }
    std::vector<std::pair<std::string, std::string>> headers = {{"Content-Type", "application/json"},
                                                                {"Accept", "text/event-stream"}};
    if (!seat.member.api_key.empty()) headers.emplace_back("Authorization", "Bearer " + seat.member.api_key);
    http::ReplyHead head;
    std::string error_body;
    absl::Status read;  // what is wrong with what came
    http::SseReader events([&](std::string_view data) {
      CallDelta delta;
      if (read.ok()) read = reader->Take(data, &delta);
      if (!call->request.logprobs.has_value()) delta.logprobs.clear();
      if (!read.ok() || (delta.text.empty() && delta.logprobs.empty())) return;
      if (!std::exchange(out.spoke, true)) ReportServing(seat, pass);
      if (call->request.stream_tokens) call->sink->OnDelta(call->request.id, std::move(delta));
    });
    const absl::Status sent = post.Run(
        seat.url.path + "/chat/completions", std::move(headers), *std::move(body),
        [&](const http::ReplyHead& came) {
          head = came;
          if (came.status == 200 && !came.content_type.starts_with("text/event-stream")) {
            read = DataLoss("the reply is \"{}\", no event stream", came.content_type);
          }
          return read.ok();
        },
        [&](std::string_view piece) {
          if (head.status != 200) {
            error_body += piece.substr(0, kErrorBodyBytesMax - std::min(kErrorBodyBytesMax, error_body.size()));
            return error_body.size() < kErrorBodyBytesMax;
          }
          if (const absl::Status pushed = events.Push(piece); read.ok()) read = pushed;
          return read.ok() && options_.clock->NowNs() < call->until_ns;
        });
    bool stopped = false;
    {
      MutexLock lock(&mutex_);
      call->post = nullptr;
      stopped = call->stopped;
    }
    out.answered = head.status != 0;
    if (stopped) {
      out.status = Cancelled("the call was cancelled");
    } else if (head.status != 0 && head.status != 200) {
      out.status = OpenAiError(head.status, error_body);
      out.retry_after_ns = RetryAfterNs(head.retry_after);
      out.full = head.status == 429 || (head.status == 503 && out.retry_after_ns.has_value());
    } else if (!read.ok()) {
      out.status = read;
    } else if (!sent.ok() && options_.clock->NowNs() >= call->until_ns) {
      out.status = DeadlineExceeded("the call's time is over");
    } else {
      out.status = sent.ok() ? reader->Finish() : sent;
    }
    return out;
  }

  CallOutcome Outcome(const Seat& seat, const Call& call, const Attempt& ended, const OpenAiReader& reader) const {
    CallOutcome out;
    out.status = Annotate(ended.status, fmt::format("member \"{}\" at {}", seat.member.name, seat.member.url));
    out.retryable = Retryable(ended.status, call);
    const CostModel cost = CostOf(seat.member.card.value_or(deliberation::v1::Card()));
    if (reader.tokens().has_value()) {
      const OpenAiReader::Tokens& tokens = *reader.tokens();
      out.usage = UsageOf(cost, tokens.prompt, tokens.cached, tokens.output);
    } else if (ended.status.ok() || ended.spoke) {  // else nothing is known to have been computed
      int64_t prompt_bytes = 0;
      for (const auto& message : call.request.prompt) prompt_bytes += static_cast<int64_t>(message.content().size());
      out.usage = EstimateUsage(cost, prompt_bytes, static_cast<int64_t>(reader.text().size()));
    }
    out.estimated = true;  // work is computed from the card, counts too where the server is silent
    if (!out.status.ok()) return out;
    out.text = reader.text();
    out.finish_reason = reader.finish_reason();
    out.trace = reader.trace();
    out.instance_id = seat.member.url;
    out.model_revision = reader.fingerprint().empty() ? seat.member.model : reader.fingerprint();
    return out;
  }

  const OpenAiOptions options_;
  std::map<std::string, std::unique_ptr<Server>> servers_;  // by host and port
  std::vector<std::unique_ptr<Seat>> seats_;
  std::map<std::string, Seat*> by_name_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<CallId, std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> NewOpenAiBackend(std::vector<OpenAiMember> members,
                                                          const OpenAiOptions& options) {
  std::vector<http::Url> urls;
  for (const OpenAiMember& member : members) {
    auto url = http::ParseUrl(member.url);
    if (!url.ok()) return Annotate(url.status(), fmt::format("member \"{}\"", member.name));
    urls.push_back(*std::move(url));
  }
  return std::make_unique<OpenAiBackend>(std::move(members), std::move(urls), options);
}

}  // namespace conclave::orchestrator
