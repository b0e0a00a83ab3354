// SPDX-License-Identifier: Apache-2.0
#include "worker/generate_stream.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "protos/rpc_status.h"
#include "protos/rpc_wire.h"

namespace conclave::worker {

namespace {

// Many small messages, which take several times what they take on the wire.
int64_t LogprobsInMemory(const pb::Delta& delta) {
  return static_cast<int64_t>(delta.logprobs().SpaceUsedExcludingSelfLong());
}

}  // namespace

GenerateStream::GenerateStream(const Shared* shared) : shared_(shared), arrival_ns_(shared->clock->NowNs()) {}

void GenerateStream::SetTransport(StreamTransport* transport) {
  MutexLock lock(&mutex_);
  transport_ = transport;
}

// ---- The call pool's side

bool GenerateStream::Accept(Request request) {
  MutexLock lock(&mutex_);
  request_ = std::move(request);
  submitted_ = !client_gone_ && !early_end_.has_value();
  return submitted_;
}

void GenerateStream::Attach(engine::RequestId id) {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    engine_id_ = id;
    actions = Decide();
  }
  Act(actions);
}

void GenerateStream::Fail(const absl::Status& status) {
  CONCLAVE_CHECK(!status.ok());
  Actions actions;
  {
    MutexLock lock(&mutex_);
    submitted_ = false;
    if (!final_.has_value()) final_ = early_end_.value_or(status);
    shared_->metrics->OnGenerateDone(final_->code(), shared_->clock->NowNs() - arrival_ns_);
    actions = Decide();
  }
  Act(actions);
}

// ---- Anybody's

void GenerateStream::EndWith(const absl::Status& status) {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    if (!early_end_.has_value()) early_end_ = status;
    actions = Decide();
  }
  Act(actions);
}

void GenerateStream::Abandon() {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    abandoned_ = client_gone_ = true;
    actions = Decide();
  }
  Act(actions);
}

void GenerateStream::Tick() {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    const bool stalled = write_in_flight_ && shared_->clock->NowNs() - write_began_ns_ >= kStallNsMax;
    if (stalled && !abandoned_ && !finished_) {
      abandoned_ = client_gone_ = true;
      shared_->metrics->OnReaderStalled();
      spdlog::warn("generate {}: the client has read nothing for {} s, cancelled", request_.id,
                   kStallNsMax / 1'000'000'000);
    }
    actions = Decide();
    if (resume_unseen_ && !engine_done_) actions.resume_engine = true;
  }
  Act(actions);
}

bool GenerateStream::cancelled() const {
  MutexLock lock(&mutex_);
  return client_gone_ || early_end_.has_value();
}

std::string GenerateStream::request_id() const {
  MutexLock lock(&mutex_);
  return request_.id;
}

// ---- The engine's side

void GenerateStream::OnStarted(int64_t prompt_tokens, int64_t cached_prompt_tokens) {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    pb::GenerateResponse message;
    pb::Started* const started = message.mutable_started();
    started->set_instance_id(shared_->instance_id);
    started->set_model_revision(shared_->model_revision);
    started->set_prompt_token_count(prompt_tokens);
    started->set_cached_prompt_token_count(cached_prompt_tokens);
    started->set_seed(request_.seed);
    started->set_request_id(request_.id);
    Push(std::move(message));
    actions = Decide();
  }
  Act(actions);
}

bool GenerateStream::OnDelta(engine::SampleDelta delta) {
  Actions actions;
  bool go_on = true;
  {
    MutexLock lock(&mutex_);
    resume_unseen_ = false;
    Sample& sample = samples_[delta.sample];
    const int64_t tokens = static_cast<int64_t>(delta.tokens.size());
    if (tokens > 0) ObserveTokens(tokens, &sample);
    if (tokens > 0 || !delta.text.empty()) PushDelta(ToProto(delta, request_.fields), &sample);
    if (delta.finished.has_value()) {
      pb::GenerateResponse message;
      pb::Finished* const finished = message.mutable_finished();
      finished->set_sample_index(delta.sample);
      finished->set_reason(ToProto(*delta.finished));
      finished->set_stop_text(rpc::ReplaceInvalidUtf8(delta.stop_match));
      finished->set_output_token_count(sample.output_tokens);
      Push(std::move(message));
    }
    paused_ = paused_ || (QueueFull() && !client_gone_);
    actions = Decide();
    go_on = !paused_;
  }
  Act(actions);
  return go_on;
}

void GenerateStream::OnDone(const absl::Status& status, const engine::Usage& usage) {
  shared_->owner->OnRequestEnded(this);
  Actions actions;
  {
    MutexLock lock(&mutex_);
    engine_done_ = true;
    const bool cancelled = absl::IsCancelled(status);
    absl::Status end = cancelled && early_end_.has_value() ? *early_end_ : status;
    const bool worked = usage.prompt_tokens > 0 || usage.output_tokens > 0;
    if (status.ok() || worked) {
      pb::GenerateResponse message;
      *message.mutable_usage() = ToProto(usage);
      Push(std::move(message));
    }
    shared_->metrics->OnGenerateDone(end.code(), shared_->clock->NowNs() - arrival_ns_);
    final_ = std::move(end);
    actions = Decide();
  }
  Act(actions);
}

// ---- The transport's side

void GenerateStream::OnWriteDone(bool ok) {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    write_in_flight_ = false;
    if (!ok) client_gone_ = true;
    actions = Decide();
  }
  Act(actions);
}

void GenerateStream::OnCancel() {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    client_gone_ = true;
    actions = Decide();
  }
  Act(actions);
}

void GenerateStream::OnTransportDone() {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    transport_ = nullptr;
    actions = Decide();
  }
  Act(actions);
}

// ---- The machine

void GenerateStream::ObserveTokens(int64_t tokens, Sample* sample) {
  const int64_t now = shared_->clock->NowNs();
  if (!first_token_seen_) shared_->metrics->OnFirstToken(now - arrival_ns_);
  if (sample->output_tokens > 0) shared_->metrics->OnTokens(tokens, now - sample->last_token_ns);
  first_token_seen_ = true;
  sample->output_tokens += tokens;
  sample->last_token_ns = now;
}

void GenerateStream::Push(pb::GenerateResponse message) {
  if (client_gone_) return;
  const int64_t bytes = static_cast<int64_t>(message.ByteSizeLong());
  const int64_t held = bytes + LogprobsInMemory(message.delta());
  queue_.push_back({std::move(message), bytes, held});
  queue_bytes_ += held;
}

void GenerateStream::PushDelta(pb::Delta delta, Sample* sample) {
  if (client_gone_) return;
  const int64_t bytes = static_cast<int64_t>(delta.ByteSizeLong());
  Event* const waiting = sample->waiting_delta;
  if (waiting != nullptr && waiting->bytes + bytes <= kDeltaMergeBytesMax) {
    pb::Delta* const merged = waiting->message.mutable_delta();
    merged->mutable_text()->append(delta.text());
    merged->mutable_token_ids()->MergeFrom(delta.token_ids());
    merged->mutable_logprobs()->MergeFrom(delta.logprobs());
    merged->set_token_count(merged->token_count() + delta.token_count());
    const int64_t held = bytes + LogprobsInMemory(delta);
    waiting->bytes += bytes;
    waiting->held += held;
    queue_bytes_ += held;
    return;
  }
  pb::GenerateResponse message;
  *message.mutable_delta() = std::move(delta);
  Push(std::move(message));
  sample->waiting_delta =
      &queue_.back();  // a deque's elements stay where they are while others come and go at its ends
}

void GenerateStream::DropQueue() {
  queue_.clear();
  queue_bytes_ = 0;
  samples_.clear();
}

bool GenerateStream::QueueFull() const {
  return static_cast<int64_t>(queue_.size()) >= kStreamEventsMax || queue_bytes_ >= kStreamBytesMax;
}

void GenerateStream::DecideWrite(Actions* actions) {
  Event event = std::move(queue_.front());
  if (event.message.has_delta()) {
    Sample& sample = samples_[event.message.delta().sample_index()];
    if (sample.waiting_delta == &queue_.front()) sample.waiting_delta = nullptr;
  }
  queue_.pop_front();
  queue_bytes_ -= event.held;
  event.message.set_sequence_number(++sequence_number_);
  absl::StatusOr<grpc::ByteBuffer> bytes = rpc::Serialize(event.message);
  CONCLAVE_CHECK_MSG(bytes.ok(), "an event is far below the message limit");
  writing_ = *std::move(bytes);
  write_in_flight_ = true;
  write_began_ns_ = shared_->clock->NowNs();
  actions->write = true;
}

GenerateStream::Actions GenerateStream::Decide() {
  Actions actions;
  if (client_gone_) DropQueue();

  // The transport: one write, or the end.
  if (transport_ != nullptr && !finished_) {
    if (abandoned_ && write_in_flight_ && !call_cancelled_) {
      call_cancelled_ = cancelling_call_ = actions.cancel_call = true;
    } else if (!write_in_flight_ && !cancelling_call_ && !queue_.empty()) {
      DecideWrite(&actions);
    } else if (!write_in_flight_ && !cancelling_call_ && (client_gone_ || final_.has_value())) {
      finished_ = actions.finish = true;
    }
  }

  // The engine: stop what nobody waits for; go on once there is room.
  const bool unwanted = client_gone_ || early_end_.has_value();
  if (unwanted && engine_id_.has_value() && !engine_done_ && !engine_told_) engine_told_ = actions.cancel_engine = true;
  const bool room = static_cast<int64_t>(queue_.size()) <= kStreamEventsMax / 2 && queue_bytes_ <= kStreamBytesMax / 2;
  if (paused_ && room && engine_id_.has_value()) {
    paused_ = false;
    if (!engine_done_ && !unwanted) resume_unseen_ = actions.resume_engine = true;
  }

  // The owner: once neither side can come back.
  const bool engine_silent = engine_done_ || !submitted_;
  if (finished_ && transport_ == nullptr && engine_silent && !closed_) closed_ = actions.closed = true;
  return actions;
}

void GenerateStream::Act(const Actions& actions) {
  const std::shared_ptr<GenerateStream> keep = shared_from_this();
  StreamTransport* transport = nullptr;
  const grpc::ByteBuffer* bytes = nullptr;
  std::optional<engine::RequestId> id;
  absl::Status end = absl::OkStatus();
  {
    // What the flags taken in Decide make ours alone: the write's bytes and the transport until it completes.
    MutexLock lock(&mutex_);
    transport = transport_;
    bytes = &writing_;
    id = engine_id_;
    if (actions.finish) end = client_gone_ ? Cancelled("the client is gone") : *final_;
  }
  if (actions.cancel_engine) shared_->host->Cancel(*id);
  if (actions.resume_engine && id.has_value()) shared_->host->Resume(*id);
  if (actions.write) transport->StartWrite(bytes);
  if (actions.finish) transport->Finish(rpc::ToGrpc(end));
  if (actions.cancel_call) {
    transport->TryCancel();
    Actions next;
    {
      MutexLock lock(&mutex_);
      cancelling_call_ = false;
      next = Decide();
    }
    Act(next);
  }
  if (actions.closed) shared_->owner->OnStreamClosed(this);
}

}  // namespace conclave::worker
