// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/simulation/sim_client.h"

#include <fmt/format.h>

#include <utility>

#include "common/status.h"

namespace conclave::orchestrator {

namespace pb = ::conclave::deliberation::v1;

// One connection. Closed, it hears nothing any more.
class SimClient::Observer final : public RunObserver {
 public:
  explicit Observer(SimClient* client) : client_(client) {}
  void OnEvent(const std::shared_ptr<const pb::Event>& event) override {
    if (client_ != nullptr) client_->OnEvent(*event);
  }
  void OnEnd(const absl::Status& status) override {
    if (client_ != nullptr) std::exchange(client_, nullptr)->OnEnd(status);
  }
  void Close() { client_ = nullptr; }
  bool waits() const { return client_ != nullptr; }

 private:
  SimClient* client_;
};

void SimClient::Begin(int64_t after_ns) {
  world_->After(after_ns, [this] {
    Start();
    Look();
  });
}

void SimClient::CancelAfter(int64_t after_ns) {
  world_->After(after_ns, [this] { Cancel(); });
}

void SimClient::DropAfter(int64_t after_ns) {
  world_->After(after_ns, [this] {
    Executor* const executor = server_.executor();
    if (ended_ || executor == nullptr || observer_ == nullptr || run_id_.empty() || life_ != server_.life()) return;
    observer_->Close();
    executor->Unwatch(std::exchange(observer_, nullptr));
    life_ = -1;  // Look connects again
  });
}

void SimClient::Start() {
  if (ended_ || !run_id_.empty() || (starting_ && life_ == server_.life())) return;
  Executor* const executor = server_.executor();
  if (executor == nullptr) return Again([this] { Start(); });
  if (observer_ != nullptr) observer_->Close();
  NewRun run = run_;
  run.spec.run_id = fmt::format("runs/c{}.{}", number_, ++attempts_);
  observer_ = std::make_shared<Observer>(this);
  starting_ = true;
  life_ = server_.life();
  ++connections_;
  executor->StartRun(std::move(run), observer_,
                     [this, life = life_](const absl::StatusOr<StartedRun>& started) { OnStarted(life, started); });
}

void SimClient::OnStarted(int64_t life, const absl::StatusOr<StartedRun>& started) {
  if (life != life_) return;
  starting_ = false;
  if (started.ok()) {
    run_id_ = started->run_id;
    if (started->existing) Watch();
    return;
  }
  observer_->Close();
  const absl::StatusCode code = started.status().code();
  const bool may_pass = code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kResourceExhausted ||
                        code == absl::StatusCode::kDataLoss;
  if (!may_pass) Violation("refused: " + started.status().ToString());
  Again([this] { Start(); });
}

void SimClient::Watch() {
  if (observer_ != nullptr) observer_->Close();
  Executor* const executor = server_.executor();
  if (executor == nullptr) return;  // Look comes back
  observer_ = std::make_shared<Observer>(this);
  life_ = server_.life();
  ++connections_;
  executor->Watch(run_id_, static_cast<int64_t>(seen_.size()), false, observer_);
}

// Notices now and then that the server it was connected to is gone, and goes to the one that is there.
void SimClient::Look() {
  if (ended_) return;
  if (life_ != server_.life() && server_.executor() != nullptr && (life_ >= 0 || !run_id_.empty())) {
    run_id_.empty() ? Start() : Watch();
  }
  if (Executor* const executor = server_.executor(); executor != nullptr && !run_id_.empty()) {
    executor->GetRun(run_id_, [this, seen = seen_.size()](const absl::StatusOr<pb::Run>& run) {
      if (!run.ok()) return Violation("its run is not found: " + run.status().ToString());
      if (run->last_sequence_number() < static_cast<int64_t>(seen)) Violation("the run is behind what was seen of it");
    });
  }
  Again([this] { Look(); });
}

void SimClient::Cancel() {
  if (ended_ || cancel_acknowledged_) return;
  Executor* const executor = server_.executor();
  if (executor != nullptr && !run_id_.empty()) {
    cancel_asked_ = true;
    executor->CancelRun(run_id_, [this](const absl::StatusOr<pb::RunState>& state) {
      if (!state.ok() || cancel_acknowledged_) return;
      cancel_acknowledged_ = true;
      acknowledged_state_ = *state;
      acknowledged_ns_ = world_->clock().UnixNs();
      server_.witness->OnCancelAcknowledged(run_id_);
    });
  }
  Again([this] { Cancel(); });
}

void SimClient::OnEvent(const pb::Event& event) {
  const auto expected = static_cast<int64_t>(seen_.size()) + 1;
  if (event.sequence_number() != expected) {
    Violation(fmt::format("event {} came where {} was due", event.sequence_number(), expected));
  }
  server_.witness->OnSeen(event);
  if (!run_id_.empty() && event.run_id() != run_id_) Violation("an event of another run");
  seen_.push_back(event);
}

void SimClient::OnStopped(int64_t life) const {
  if (life_ == life && !starting_ && observer_ != nullptr && observer_->waits()) {
    Violation("it is not told that the orchestrator stops");
  }
}

void SimClient::OnEnd(const absl::Status& status) {
  if (status.ok()) {
    if (seen_.empty() || !seen_.back().has_run_finished()) Violation("the stream ended before the run");
    ended_ = true;
  } else if (status.code() == absl::StatusCode::kUnavailable) {
    life_ = -1;
  } else {
    Violation("the stream ended with " + status.ToString());
    life_ = -1;
  }
}

}  // namespace conclave::orchestrator
