// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_call.h"

#include <grpcpp/client_context.h>

#include <atomic>
#include <utility>

#include "common/status.h"
#include "orchestrator/backend/worker_request.h"
#include "protos/rpc_client.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;

constexpr int64_t kControlTimeoutNs = 2'000'000'000;

// A failure another attempt may not meet: the worker is gone, going, or full. An empty UNIMPLEMENTED is how gRPC 1.51
// reports a message it could not decode, not an old server.
absl::Status FromWorker(const grpc::Status& status, const std::string& where) {
  if (status.ok()) return absl::OkStatus();
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && status.error_message().empty()) {
    return Internal("worker {}: a message could not be decoded", where);
  }
  const absl::Status full = rpc::FromGrpc(status);
  absl::Status named = Annotate(full, fmt::format("worker {}", where));
  full.ForEachPayload([&named](absl::string_view url, const absl::Cord& payload) { named.SetPayload(url, payload); });
  return named;
}

bool MayPass(const absl::Status& status) { return status.code() == absl::StatusCode::kUnavailable; }

// Sends CancelRequests and forgets about it: the stream's own end tells how it went. `answered` gets whether it ran,
// or why the worker did not say.
void SendCancel(pb::InferenceService::Stub* stub, const std::string& request_id,
                std::function<void(const absl::StatusOr<bool>& running)> answered) {
  struct Exchange {
    grpc::ClientContext context;
    pb::CancelRequestsRequest request;
    pb::CancelRequestsResponse response;
  };
  auto exchange = std::make_shared<Exchange>();
  rpc::SetDeadline(&exchange->context, kControlTimeoutNs);
  exchange->request.add_request_ids(request_id);
  stub->async()->CancelRequests(&exchange->context, &exchange->request, &exchange->response,
                                [exchange, answered = std::move(answered)](const grpc::Status& status) {
                                  if (!status.ok()) return answered(rpc::FromGrpc(status));
                                  answered(exchange->response.cancelled_count() > 0);
                                });
}

class GenerateCall final : public WorkerCall,
                           public grpc::ClientReadReactor<pb::GenerateResponse>,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  explicit GenerateCall(Start start) : start_(std::move(start)) {}

  void Begin() override {
    self_ = shared_from_this();
    rpc::SetDeadline(&context_, start_.timeout_ns);
    request_ = ToGenerate(start_.request, start_.model, start_.request_id);
    if (request_.has_continuation()) said_ = *start_.request.partial;
    start_.stub->async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }

  // A worker that does not know the request has ended it or not read it yet. Either way its word comes on the stream,
  // with the work it did: to break the stream would lose that. At its first word it is asked again.
  void CancelOnWorker() override {
    SendCancel(start_.stub, start_.request_id, [self = shared_from_this()](const absl::StatusOr<bool>& running) {
      if (!running.ok()) {
        if (!self->answered()) self->context_.TryCancel();
      } else if (!*running) {
        self->cancel_at_first_word_ = true;
        if (self->answered()) self->CancelIfAsked();
      }
    });
  }
  void Abandon() override { context_.TryCancel(); }
  bool answered() const override { return messages_ > 0; }
  int64_t messages() const override { return messages_; }

  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone follows
    if (++messages_ == 1) CancelIfAsked();
    Take();
    if (static_cast<int64_t>(said_.text().size()) > kCallTextBytesMax && broken_.ok()) {
      broken_ = ResourceExhausted("worker {}: a text of more than {} bytes; lower max_output_tokens", start_.where,
                                  kCallTextBytesMax);
      context_.TryCancel();
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    WorkerCallEnd end;
    CallOutcome& out = end.outcome;
    const absl::Status full = FromWorker(status, start_.where);
    out.status = broken_.ok() ? full : broken_;
    if (out.status.ok() && !finished_) {
      out.status = Internal("worker {}: the stream ended before the sample did", start_.where);
    }
    out.retryable = broken_.ok() && MayPass(full);
    end.retry_delay_ns = rpc::RetryDelayNs(full);
    out.finish_reason = finish_reason_;
    out.instance_id = instance_id_;
    out.model_revision = model_revision_;
    if (usage_.has_value()) {
      out.usage = *usage_;
    } else if (answered()) {
      out.usage = EstimateLostWork(start_.model, prompt_tokens_, cached_tokens_, output_tokens_);
      out.estimated = true;
    }
    if (out.status.ok()) {
      out.text = std::move(*said_.mutable_text());
    } else if (broken_.ok() && said_.token_ids_size() > 0) {
      out.partial = std::move(said_);
      out.partial.set_model_revision(model_revision_);
    }
    if (out.status.ok() && !trace_.confidences.empty()) out.trace = std::move(trace_);
    const auto keep = std::move(self_);
    start_.done(std::move(end));
  }

 private:
  void CancelIfAsked() {
    if (cancel_at_first_word_.exchange(false)) {
      SendCancel(start_.stub, start_.request_id, [self = shared_from_this()](const absl::StatusOr<bool>&) {});
    }
  }
  void AddTrace(const pb::Delta& delta) {
    for (const pb::Logprobs& place : delta.logprobs()) {
      trace_.logprob_sum += static_cast<double>(place.chosen().logprob());
      double sum = 0;
      for (const pb::TokenLogprob& top : place.top()) sum += static_cast<double>(top.logprob());
      const int count = std::max(1, place.top_size());
      trace_.confidences.push_back(static_cast<float>(-sum / count));
    }
  }

  void TellDelta() {
    CallDelta told = {response_.delta().text(), response_.delta().token_count()};
    if (start_.request.logprobs.has_value()) {
      told.logprobs.assign(response_.delta().logprobs().begin(), response_.delta().logprobs().end());
    }
    if (!told.text.empty() || !told.logprobs.empty()) start_.sink->OnDelta(start_.request.id, std::move(told));
  }

  void Take() {
    switch (response_.event_case()) {
      case pb::GenerateResponse::kStarted:
        instance_id_ = response_.started().instance_id();
        model_revision_ = response_.started().model_revision();
        prompt_tokens_ = response_.started().prompt_token_count();
        cached_tokens_ = response_.started().cached_prompt_token_count();
        break;
      case pb::GenerateResponse::kDelta:
        output_tokens_ += response_.delta().token_count();
        said_.mutable_text()->append(response_.delta().text());
        said_.mutable_token_ids()->MergeFrom(response_.delta().token_ids());
        if (start_.request.token_trace) AddTrace(response_.delta());
        if (start_.request.stream_tokens) TellDelta();
        break;
      case pb::GenerateResponse::kFinished:
        finished_ = true;
        finish_reason_ = response_.finished().reason();
        break;
      case pb::GenerateResponse::kUsage:
        usage_ = response_.usage();
        break;
      case pb::GenerateResponse::EVENT_NOT_SET:
        broken_ = Internal("worker {}: an event this program does not know", start_.where);
        context_.TryCancel();
        break;
    }
  }

  Start start_;
  grpc::ClientContext context_;
  pb::GenerateRequest request_;
  pb::GenerateResponse response_;
  std::shared_ptr<GenerateCall> self_;
  std::atomic<int64_t> messages_ = 0;
  std::atomic<bool> cancel_at_first_word_ = false;
  // Reads do not overlap, so what follows needs no lock.
  absl::Status broken_;
  deliberation::v1::PartialText said_;  // what it goes on from included
  TokenTrace trace_;
  std::string instance_id_, model_revision_;
  int64_t prompt_tokens_ = 0, cached_tokens_ = 0, output_tokens_ = 0;
  pb::FinishReason finish_reason_ = pb::FINISH_REASON_UNSPECIFIED;
  bool finished_ = false;
  std::optional<pb::Usage> usage_;
};

class ScoreCall final : public WorkerCall, public std::enable_shared_from_this<ScoreCall> {
 public:
  explicit ScoreCall(Start start) : start_(std::move(start)) {}

  void Begin() override {
    rpc::SetDeadline(&context_, start_.timeout_ns);
    request_ = ToScore(start_.request, start_.model);
    start_.stub->async()->Score(&context_, &request_, &response_,
                                [self = shared_from_this()](const grpc::Status& status) {
                                  self->answered_ = true;
                                  self->End(status);
                                });
  }
  // Score has no id on the wire; the worker notices the broken call.
  void CancelOnWorker() override { context_.TryCancel(); }
  void Abandon() override { context_.TryCancel(); }
  bool answered() const override { return answered_; }
  int64_t messages() const override { return answered_ ? 1 : 0; }

 private:
  void End(const grpc::Status& status) {
    WorkerCallEnd end;
    const absl::Status full = FromWorker(status, start_.where);
    end.outcome.status = full;
    end.outcome.retryable = MayPass(full);
    end.retry_delay_ns = rpc::RetryDelayNs(full);
    end.outcome.usage = response_.usage();
    if (full.ok()) {
      end.outcome.p_true = PTrue(response_);
      end.outcome.finish_reason = pb::FINISH_REASON_STOP;
      if (!end.outcome.p_true.has_value()) {
        end.outcome.status = Internal("worker {}: no scores of the two continuations", start_.where);
      } else {
        const PTrueContinuations compared = start_.request.p_true.value_or(PTrueContinuations());
        end.outcome.text = *end.outcome.p_true >= 0.5 ? compared.yes : compared.no;
      }
    }
    start_.done(std::move(end));
  }

  Start start_;
  grpc::ClientContext context_;
  pb::ScoreRequest request_;
  pb::ScoreResponse response_;
  std::atomic<bool> answered_ = false;
};

}  // namespace

std::shared_ptr<WorkerCall> WorkerCall::Create(Start start) {
  if (start.request.p_true.has_value()) return std::make_shared<ScoreCall>(std::move(start));
  return std::make_shared<GenerateCall>(std::move(start));
}

}  // namespace conclave::orchestrator
