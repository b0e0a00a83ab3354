// SPDX-License-Identifier: Apache-2.0
// How a session listens to its runs: handed over to a waiting thread, or kept until the end.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "common/bounded_queue.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/experiment/deliberator.h"
#include "orchestrator/run/run_observer.h"

namespace conclave::cli {

// Hands a run's events over to the thread that waits for them.
class QueueObserver final : public orchestrator::RunObserver {
 public:
  struct Message {
    std::shared_ptr<const deliberation::v1::Event> event;  // null: the end
    absl::Status end;
  };
  void OnEvent(const std::shared_ptr<const deliberation::v1::Event>& event) override {
    queue_.TryPush({event, absl::OkStatus()});
  }
  void OnEnd(const absl::Status& status) override { queue_.TryPush({nullptr, status}); }
  BoundedQueue<Message>& queue() { return queue_; }

 private:
  BoundedQueue<Message> queue_{1 << 20};
};

// Keeps a run's numbered events until its end.
class RecordObserver final : public orchestrator::RunObserver {
 public:
  using Done = std::function<void(absl::Status, experiment::RunRecord)>;
  explicit RecordObserver(Done done) : done_(std::move(done)) {}
  void OnEvent(const std::shared_ptr<const deliberation::v1::Event>& event) override {
    if (event->sequence_number() > 0) record_.events.push_back(*event);
  }
  void OnEnd(const absl::Status& status) override {
    SetSeconds(&record_);
    done_(status, std::move(record_));
  }

  // From the times of its first and last event.
  static void SetSeconds(experiment::RunRecord* record) {
    if (record->events.empty()) return;
    record->seconds = Seconds(record->events.back().time()) - Seconds(record->events.front().time());
  }

 private:
  static double Seconds(const google::protobuf::Timestamp& t) {
    return static_cast<double>(t.seconds()) + 1e-9 * t.nanos();
  }

  const Done done_;
  experiment::RunRecord record_;
};

}  // namespace conclave::cli
