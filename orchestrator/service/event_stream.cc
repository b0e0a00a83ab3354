// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/event_stream.h"

#include <utility>

#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

constexpr int64_t kPullEvents = 64;
constexpr int64_t kPullBytes = 256 << 10;

}  // namespace

EventStream::EventStream(Options options, EventTransport* transport)
    : options_(options), transport_(transport), last_write_ns_(options.clock->NowNs()) {}

void EventStream::Follow(std::string run_id, int64_t after_sequence_number, const Reading& reading) {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    run_id_ = std::move(run_id);
    reading_ = reading;
    last_queued_ = last_written_ = after_sequence_number;
    pulling_ = !ending_;
    actions = NextLocked();
    actions.cancel_run = reader_gone_ && reading_.cancel_on_disconnect;
  }
  Do(std::move(actions));
}

void EventStream::Observe(std::string run_id, const Reading& reading) {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    run_id_ = std::move(run_id);
    reading_ = reading;
    observing_ = !ending_;
    actions.unwatch = ending_;  // it ended before there was a run to leave
    actions.cancel_run = reader_gone_ && reading_.cancel_on_disconnect;
  }
  Do(std::move(actions));
}

void EventStream::Fail(const absl::Status& status) { OnEnd(status); }

void EventStream::OnEvent(const std::shared_ptr<const pb::Event>& event) {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    if (ending_ || transport_ == nullptr) return;
    const int64_t bytes = static_cast<int64_t>(event->ByteSizeLong());
    if (queue_.size() >= kSubscriberEventsMax || (!queue_.empty() && queue_bytes_ + bytes > kSubscriberBytesMax)) {
      queue_.clear();
      queue_bytes_ = 0;
      EndLocked(rpc::WithReason(
          ResourceExhausted("{}: the reader is too slow; watch again after event {}", run_id_, last_written_),
          "SUBSCRIBER_TOO_SLOW", {{"last_sequence_number", std::to_string(last_written_)}}));
    } else {
      queue_.push_back(event);
      queue_bytes_ += bytes;
      if (event->sequence_number() > 0) last_queued_ = event->sequence_number();
    }
    actions = NextLocked();
  }
  Do(std::move(actions));
}

void EventStream::OnEnd(const absl::Status& status) {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    observing_ = false;
    EndLocked(status);
    actions = NextLocked();
  }
  Do(std::move(actions));
}

void EventStream::EndLocked(const absl::Status& status) {
  if (std::exchange(ending_, true)) return;
  pulling_ = false;
  end_ = status;
}

// What to do now. Nothing while a write is in flight: its end asks again.
EventStream::Actions EventStream::NextLocked() {
  Actions actions;
  if (transport_ == nullptr || finished_) return actions;
  if (ending_) actions.unwatch = std::exchange(observing_, false);
  if (writing_) return actions;
  if (!queue_.empty()) {
    writing_ = true;
    actions.write = std::move(queue_.front());
    queue_.pop_front();
    queue_bytes_ -= static_cast<int64_t>(actions.write->ByteSizeLong());
    last_write_ns_ = options_.clock->NowNs();
    if (actions.write->sequence_number() > 0) last_written_ = actions.write->sequence_number();
  } else if (ending_) {
    finished_ = true;
    actions.finish = true;
    actions.status = rpc::ToGrpc(end_);
  } else if (pulling_ && !pull_asked_) {
    pull_asked_ = true;
    actions.pull = true;
  }
  return actions;
}

void EventStream::Do(Actions actions) {
  if (actions.unwatch) options_.executor->Unwatch(shared_from_this());
  if (actions.cancel_run) options_.executor->CancelRun(run_id(), [](const auto&) {});
  // Between lock and call the transport cannot go: it goes after Finish or a write's end, and neither has happened.
  EventTransport* transport = nullptr;
  {
    MutexLock lock(&mutex_);
    transport = transport_;
  }
  if (actions.write != nullptr) transport->Write(*actions.write);
  if (actions.finish) transport->Finish(actions.status);
  if (actions.pull) {
    options_.executor->OnReader([self = shared_from_this()] { self->Pull(/*last_chance=*/false); });
  }
}

void EventStream::Pull(bool last_chance) {
  std::string run_id;
  int64_t after = 0;
  bool stream_tokens = false;
  {
    MutexLock lock(&mutex_);
    run_id = run_id_;
    after = last_queued_;
    stream_tokens = reading_.stream_tokens;
  }
  const auto page = options_.executor->ReadEvents(run_id, after, kPullEvents, kPullBytes);
  if (!page.ok()) return OnEnd(page.status());
  if (!page->empty()) {
    Actions actions;
    {
      MutexLock lock(&mutex_);
      for (const pb::Event& event : *page) {
        if (ending_) break;
        queue_.push_back(std::make_shared<const pb::Event>(event));
        queue_bytes_ += static_cast<int64_t>(event.ByteSizeLong());
        last_queued_ = event.sequence_number();
        if (event.has_run_finished()) EndLocked(absl::OkStatus());
      }
      pull_asked_ = false;  // the next page is read when this one is written
      actions = NextLocked();
    }
    return Do(std::move(actions));
  }
  if (last_chance) return OnEnd(options_.executor->WhyNothingFollows(run_id, after));
  // Caught up with the store: from here the executor tells. It must not before this knows.
  {
    MutexLock lock(&mutex_);
    if (ending_ || transport_ == nullptr) return;
    pulling_ = false;
    observing_ = true;
  }
  options_.executor->Attach(run_id, after, stream_tokens, shared_from_this(),
                            [self = shared_from_this()](Executor::Attached attached) {
                              if (attached == Executor::Attached::kYes) return;
                              {
                                MutexLock lock(&self->mutex_);
                                self->observing_ = false;
                                self->pulling_ = true;
                              }
                              // Behind: read on. Not here: it may have ended since, then its last events are stored.
                              const bool last = attached == Executor::Attached::kNotHere;
                              self->options_.executor->OnReader([self, last] { self->Pull(last); });
                            });
}

void EventStream::OnWriteDone(bool ok) {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) {
      queue_.clear();
      queue_bytes_ = 0;
      EndLocked(Cancelled("the reader is gone"));
    }
    actions = NextLocked();
  }
  Do(std::move(actions));
}

void EventStream::OnCancel() {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    queue_.clear();
    queue_bytes_ = 0;
    reader_gone_ = true;
    EndLocked(Cancelled("the reader is gone"));
    actions = NextLocked();
    actions.cancel_run = reading_.cancel_on_disconnect && !run_id_.empty();
  }
  Do(std::move(actions));
}

void EventStream::OnTransportDone() {
  MutexLock lock(&mutex_);
  transport_ = nullptr;
  queue_.clear();
}

void EventStream::Tick() {
  Actions actions;
  {
    MutexLock lock(&mutex_);
    const bool idle = !writing_ && queue_.empty() && !ending_ && transport_ != nullptr && !run_id_.empty();
    if (!idle || options_.clock->NowNs() - last_write_ns_ < kHeartbeatNs) return;
    auto event = std::make_shared<pb::Event>();
    event->set_run_id(run_id_);
    event->mutable_heartbeat()->set_last_sequence_number(last_queued_);
    queue_bytes_ += static_cast<int64_t>(event->ByteSizeLong());
    queue_.push_back(std::move(event));
    actions = NextLocked();
  }
  Do(std::move(actions));
}

std::string EventStream::run_id() const {
  MutexLock lock(&mutex_);
  return run_id_;
}

bool EventStream::ended() const {
  MutexLock lock(&mutex_);
  return transport_ == nullptr;
}

bool EventStream::reader_gone() const {
  MutexLock lock(&mutex_);
  return reader_gone_;
}

}  // namespace conclave::orchestrator
