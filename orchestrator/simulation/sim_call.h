// SPDX-License-Identifier: Apache-2.0
// One request to a simulated worker as its caller sees it. Private to the fleet.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "orchestrator/backend/worker_request.h"
#include "orchestrator/simulation/sim_fleet.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {

class SimCall final : public WorkerCall, public std::enable_shared_from_this<SimCall> {
 public:
  SimCall(SimFleet* fleet, int32_t worker, Start start)
      : fleet_(fleet), worker_(worker), start_(std::move(start)), number_(fleet->next_call_++) {
    if (start_.request.partial != nullptr) said_ = *start_.request.partial;
  }

  void Begin() override {
    fleet_->calls_[number_] = weak_from_this();
    fleet_->ToWorker(
        worker_, [self = shared_from_this()] { self->fleet_->Admit(self->worker_, self); },
        [self = shared_from_this()] { self->End(Unavailable("connection refused"), std::nullopt); });
  }
  void CancelOnWorker() override {
    fleet_->ToWorker(
        worker_, [self = shared_from_this()] { self->fleet_->CancelRequest(self->worker_, self->start_.request_id); },
        [] {});
  }
  void Abandon() override {
    // The connection says so, unless nothing gets through: then whatever lay between the two has forgotten it.
    if (fleet_->world_->now_ns() >= SimFleet::SilentUntil(fleet_->worker(worker_))) CancelOnWorker();
    fleet_->world_->After(0, [self = shared_from_this()] { self->End(Cancelled("abandoned"), std::nullopt); });
  }
  bool answered() const override { return messages_ > 0; }
  int64_t messages() const override { return messages_; }

  // ---- What the worker sends.
  void OnStarted(int64_t prompt_tokens) {
    if (ended()) return;
    Heard();
    prompt_tokens_ = prompt_tokens;
  }
  void OnToken(const std::string& token) {
    if (ended()) return;
    Heard();
    ++output_tokens_;
    said_.mutable_text()->append(token);
    said_.add_token_ids(said_.token_ids_size());
    if (start_.request.stream_tokens) start_.sink->OnDelta(start_.request.id, {token, 1});
  }
  void End(const absl::Status& status, const std::optional<inference::v1::Usage>& usage, bool whole = false) {
    if (ended()) return;
    ended_ns_ = fleet_->world_->now_ns();
    fleet_->calls_.erase(number_);
    WorkerCallEnd end;
    end.outcome.status = status;
    end.outcome.retryable = status.code() == absl::StatusCode::kUnavailable;
    end.retry_delay_ns = rpc::RetryDelayNs(status);
    end.outcome.finish_reason = whole ? inference::v1::FINISH_REASON_STOP : inference::v1::FINISH_REASON_LENGTH;
    end.outcome.instance_id = fleet_->InstanceOf(worker_);
    if (usage.has_value()) {
      end.outcome.usage = *usage;
    } else if (answered()) {
      end.outcome.usage = EstimateLostWork(start_.model, prompt_tokens_, 0, output_tokens_);
      end.outcome.estimated = true;
    }
    if (status.ok()) {
      end.outcome.text = std::move(*said_.mutable_text());
    } else if (said_.token_ids_size() > 0) {
      end.outcome.partial = std::move(said_);
      end.outcome.partial.set_model_revision(start_.model.revision());
    }
    start_.done(std::move(end));
  }

  int32_t worker() const { return worker_; }
  const Start& start() const { return start_; }
  int64_t* last_ns() { return &last_ns_; }
  bool ended() const { return ended_ns_ >= 0; }
  int64_t ended_ns() const { return ended_ns_; }

 private:
  void Heard() {
    ++messages_;
    fleet_->worker(worker_).delivered_ns = fleet_->world_->now_ns();
  }

  SimFleet* const fleet_;
  const int32_t worker_;
  const Start start_;
  const int64_t number_;
  int64_t last_ns_ = 0;  // when the last message comes
  int64_t messages_ = 0, prompt_tokens_ = 0, output_tokens_ = 0;
  deliberation::v1::PartialText said_;
  int64_t ended_ns_ = -1;  // -1: it goes on
};

}  // namespace conclave::orchestrator
