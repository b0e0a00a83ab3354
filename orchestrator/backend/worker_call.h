// SPDX-License-Identifier: Apache-2.0
// One call on one worker: a Generate stream read to its end, or a Score.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "conclave/inference/v1/inference.grpc.pb.h"
#include "orchestrator/backend/backend.h"

namespace conclave::orchestrator {

// A call's text at most; a member that writes more is cut off with RESOURCE_EXHAUSTED.
inline constexpr int64_t kCallTextBytesMax = 1 << 20;

// How the call on this worker ended, and what the backend should know beside it.
struct WorkerCallEnd {
  CallOutcome outcome;
  std::optional<int64_t> retry_delay_ns;  // the worker asks to be tried again after this time
};

// Thread-safe. Keeps itself alive from Begin to the end.
class WorkerCall {
 public:
  struct Start {
    CallRequest request;
    std::string request_id;  // on the wire, at most 36 characters
    inference::v1::Model model;
    inference::v1::InferenceService::Stub* stub = nullptr;  // outlives the call
    std::string where;                                      // the worker's address, for errors
    CallSink* sink = nullptr;                               // for deltas only
    int64_t timeout_ns = 0;
    // Exactly once, last, from any thread.
    std::function<void(WorkerCallEnd)> done;
  };
  static std::shared_ptr<WorkerCall> Create(Start start);

  virtual ~WorkerCall() = default;
  virtual void Begin() = 0;
  // Asks the worker to end the call and to report what it used; the stream then ends by itself.
  virtual void CancelOnWorker() = 0;
  // Ends the call here and now, without the worker's report.
  virtual void Abandon() = 0;
  // Whether the worker has answered anything yet.
  virtual bool answered() const = 0;
  // Messages that came so far.
  virtual int64_t messages() const = 0;
};

}  // namespace conclave::orchestrator
