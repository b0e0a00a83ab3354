// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/client/orchestrator_client.h"

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <atomic>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"
#include "common/status.h"
#include "conclave/deliberation/v1/deliberation.grpc.pb.h"
#include "orchestrator/client/event_feed.h"
#include "protos/rpc_client.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

constexpr int64_t kCancelTimeoutNs = 5'000'000'000;

// The error of an answer, named after who gave it. An empty UNIMPLEMENTED is how gRPC 1.51 reports a message that it
// could not decode.
absl::Status FromOrchestrator(const grpc::Status& status, const std::string& address) {
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && status.error_message().empty()) {
    return Internal("orchestrator {}: a message could not be decoded", address);
  }
  absl::Status full = rpc::FromGrpc(status);
  if (full.ok()) return full;
  absl::Status named = Annotate(full, fmt::format("orchestrator {}", address));
  full.ForEachPayload([&named](absl::string_view url, const absl::Cord& payload) { named.SetPayload(url, payload); });
  return named;
}

// One RPC of a stream. Its owner lives until `ended` has run, which may delete it.
class Attempt {
 public:
  virtual ~Attempt() = default;
  virtual void Cancel() = 0;
};

template <typename Request, typename Response>
class ReadAttempt final : public Attempt, public grpc::ClientReadReactor<Response> {
 public:
  using Heard = std::function<absl::Status(const std::shared_ptr<const pb::Event>&)>;
  using Ended = std::function<void(const grpc::Status&, const absl::Status& broken)>;

  ReadAttempt(Request request, Heard heard, Ended ended)
      : request_(std::move(request)), heard_(std::move(heard)), ended_(std::move(ended)) {}
  grpc::ClientContext* context() { return &context_; }
  const Request* request() const { return &request_; }
  void Begin() {
    this->StartRead(&response_);
    this->StartCall();
  }
  void Cancel() override { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone follows
    if (broken_.ok()) {
      broken_ = heard_(std::make_shared<const pb::Event>(response_.event()));
      if (!broken_.ok()) context_.TryCancel();
    }
    this->StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    const Ended ended = std::move(ended_);
    ended(status, broken_);
  }

 private:
  const Request request_;
  grpc::ClientContext context_;
  Response response_;
  Heard heard_;
  Ended ended_;
  absl::Status broken_;
};

}  // namespace

class OrchestratorClient::Impl : public std::enable_shared_from_this<OrchestratorClient::Impl> {
 public:
  Impl(std::string_view address, const ClientOptions& options) : address_(address), options_(options) {}

  absl::Status Connect() {
    rpc::KeepCallbackQueue();
    RETURN_IF_ERROR(rpc::ParseAddress(address_).status());
    ASSIGN_OR_RETURN(const auto credentials, rpc::ChannelCredentials(options_.tls));
    stub_ = pb::DeliberationService::NewStub(grpc::CreateCustomChannel(address_, credentials, rpc::ChannelArguments()));
    grpc::ClientContext context;
    rpc::SetDeadline(&context, options_.connect_timeout_ns);
    pb::ListMembersResponse response;
    const grpc::Status status = stub_->ListMembers(&context, {}, &response);
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
        status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return Unavailable("no orchestrator answers on {} ({})", address_, status.error_message());
    }
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      return Unavailable("{} answers, but is no orchestrator (it does not serve conclave.deliberation.v1)", address_);
    }
    RETURN_IF_ERROR(FromOrchestrator(status, address_));
    members_.assign(response.members().begin(), response.members().end());
    return absl::OkStatus();
  }

  const std::string& address() const { return address_; }
  const std::vector<pb::ListMembersResponse::Member>& members() const { return members_; }
  const ClientOptions& options() const { return options_; }
  pb::DeliberationService::Stub* stub() { return stub_.get(); }

  class Stream;
  void Begin(const std::shared_ptr<Stream>& stream);
  void Forget(const std::shared_ptr<Stream>& stream) {
    MutexLock lock(&mutex_);
    streams_.erase(stream);
    changed_.SignalAll();
  }

  void Cancel(std::string run_id, std::function<void(absl::Status)> done) {
    struct Exchange {
      grpc::ClientContext context;
      pb::CancelRunRequest request;
      pb::CancelRunResponse response;
    };
    auto exchange = std::make_shared<Exchange>();
    rpc::SetDeadline(&exchange->context, kCancelTimeoutNs);
    exchange->request.set_run_id(std::move(run_id));
    {
      MutexLock lock(&mutex_);
      ++exchanges_;
    }
    stub_->async()->CancelRun(
        &exchange->context, &exchange->request, &exchange->response,
        [self = shared_from_this(), exchange, done = std::move(done)](const grpc::Status& status) {
          done(FromOrchestrator(status, self->address_));
          MutexLock lock(&self->mutex_);
          --self->exchanges_;
          self->changed_.SignalAll();
        });
  }

  void StopWatching();
  void WaitForAll() {
    MutexLock lock(&mutex_);
    while (!streams_.empty() || exchanges_ > 0) changed_.Wait(&mutex_);
  }

 private:
  const std::string address_;
  const ClientOptions options_;
  std::unique_ptr<pb::DeliberationService::Stub> stub_;
  std::vector<pb::ListMembersResponse::Member> members_;
  Mutex mutex_;
  CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  int exchanges_ ABSL_GUARDED_BY(mutex_) = 0;
  std::set<std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
};

// One observer's stream over all its attempts. Attempts, the alarm between them and Stop may meet; what gRPC tells
// about one attempt does not overlap.
class OrchestratorClient::Impl::Stream : public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::shared_ptr<Impl> client, std::shared_ptr<RunObserver> observer, pb::RunRequest run, int64_t after)
      : client_(std::move(client)),
        observer_(std::move(observer)),
        run_(std::move(run)),
        stream_tokens_(run_.stream_tokens()),
        feed_(after, client_->options().lost_ns) {}
  void set_run_id(std::string run_id) { run_id_ = std::move(run_id); }

  // Asks, for the first time or again: with a run's number if one is known.
  void Open() {
    MutexLock lock(&mutex_);
    if (stopped_) return EndSoonLocked();
    if (!feed_.run_id().empty()) run_id_ = feed_.run_id();
    if (run_id_.empty()) {
      auto attempt = Make<pb::RunRequest, pb::RunResponse>(run_);
      client_->stub()->async()->Run(attempt->context(), attempt->request(), attempt.get());
      BeginLocked(std::move(attempt));
    } else {
      pb::WatchRequest watch;
      watch.set_run_id(run_id_);
      watch.set_after_sequence_number(feed_.last_sequence_number());
      watch.set_stream_tokens(stream_tokens_);
      auto attempt = Make<pb::WatchRequest, pb::WatchResponse>(std::move(watch));
      client_->stub()->async()->Watch(attempt->context(), attempt->request(), attempt.get());
      BeginLocked(std::move(attempt));
    }
  }

  void Stop() {
    MutexLock lock(&mutex_);
    stopped_ = true;
    if (attempt_ != nullptr) attempt_->Cancel();
    if (alarm_ != nullptr) alarm_->Cancel();
  }

 private:
  template <typename Request, typename Response>
  std::unique_ptr<ReadAttempt<Request, Response>> Make(Request request) {
    const auto self = shared_from_this();
    return std::make_unique<ReadAttempt<Request, Response>>(
        std::move(request), [self](const std::shared_ptr<const pb::Event>& event) { return self->OnEvent(event); },
        [self](const grpc::Status& status, const absl::Status& broken) { self->OnAttemptEnd(status, broken); });
  }
  template <typename AttemptType>
  void BeginLocked(std::unique_ptr<AttemptType> attempt) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    AttemptType* const raw = attempt.get();
    attempt_ = std::move(attempt);
    raw->Begin();
  }
  // From Open, which an observer may be above: told by the alarm's thread.
  void EndSoonLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    SetAlarmLocked(0, [](Stream* stream) { stream->End(Cancelled("no longer watched")); });
  }
  // A new alarm each time: the last one's callback may still be running. An alarm keeps its callback as long as it
  // lives itself, and the stream keeps its alarm: so the callback lets go of the stream when it is done.
  void SetAlarmLocked(int64_t delay_ns, void (*act)(Stream*)) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(rpc::After(delay_ns), [self = shared_from_this(), act](bool) mutable {
      const std::shared_ptr<Stream> stream = std::move(self);
      act(stream.get());
    });
  }

  absl::Status OnEvent(const std::shared_ptr<const pb::Event>& event) {
    const absl::StatusOr<bool> shown = feed_.Take(*event);
    if (!shown.ok()) return shown.status();
    if (*shown) observer_->OnEvent(event);
    return absl::OkStatus();
  }

  void OnAttemptEnd(const grpc::Status& status, const absl::Status& broken) {
    EventFeed::Next next =
        broken.ok() ? feed_.OnBroken(FromOrchestrator(status, client_->address()), client_->options().clock->NowNs())
                    : EventFeed::Next{.end = true, .status = broken, .delay_ns = 0};
    std::unique_ptr<Attempt> over;
    {
      MutexLock lock(&mutex_);
      over = std::move(attempt_);
      const bool complete = next.end && next.status.ok();
      if (stopped_ && !complete) next = {.end = true, .status = Cancelled("no longer watched"), .delay_ns = 0};
      if (!next.end) {
        return SetAlarmLocked(next.delay_ns, [](Stream* stream) { stream->Open(); });
      }
    }
    End(next.status);
  }

  void End(const absl::Status& status) {
    observer_->OnEnd(status);
    client_->Forget(shared_from_this());
  }

  const std::shared_ptr<Impl> client_;
  const std::shared_ptr<RunObserver> observer_;
  const pb::RunRequest run_;
  const bool stream_tokens_;
  std::string run_id_;
  EventFeed feed_;  // touched by one attempt at a time
  Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<Attempt> attempt_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
};

void OrchestratorClient::Impl::Begin(const std::shared_ptr<Stream>& stream) {
  {
    MutexLock lock(&mutex_);
    streams_.insert(stream);
    if (stopped_) stream->Stop();
  }
  stream->Open();
}

void OrchestratorClient::Impl::StopWatching() {
  std::set<std::shared_ptr<Stream>> streams;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    streams = streams_;
  }
  for (const auto& stream : streams) stream->Stop();
}

absl::StatusOr<std::unique_ptr<OrchestratorClient>> OrchestratorClient::Connect(std::string_view address,
                                                                                const ClientOptions& options) {
  auto impl = std::make_shared<Impl>(address, options);
  RETURN_IF_ERROR(impl->Connect());
  return std::unique_ptr<OrchestratorClient>(new OrchestratorClient(std::move(impl)));
}

OrchestratorClient::~OrchestratorClient() {
  impl_->StopWatching();
  impl_->WaitForAll();
}

const std::string& OrchestratorClient::address() const { return impl_->address(); }
const std::vector<pb::ListMembersResponse::Member>& OrchestratorClient::members() const { return impl_->members(); }

void OrchestratorClient::Run(pb::RunRequest request, std::shared_ptr<RunObserver> observer) {
  impl_->Begin(std::make_shared<Impl::Stream>(impl_, std::move(observer), std::move(request), 0));
}

void OrchestratorClient::Watch(std::string run_id, int64_t after_sequence_number,
                               std::shared_ptr<RunObserver> observer) {
  auto stream = std::make_shared<Impl::Stream>(impl_, std::move(observer), pb::RunRequest(), after_sequence_number);
  stream->set_run_id(std::move(run_id));
  impl_->Begin(stream);
}

void OrchestratorClient::Cancel(std::string run_id, std::function<void(absl::Status)> done) {
  impl_->Cancel(std::move(run_id), std::move(done));
}

void OrchestratorClient::StopWatching() { impl_->StopWatching(); }

}  // namespace conclave::orchestrator
