// SPDX-License-Identifier: Apache-2.0
// A worker without a model: the real service over gRPC, answers from a function. For tests of what talks to workers.
#pragma once

#include <grpcpp/server.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"
#include "conclave/inference/v1/inference.grpc.pb.h"
#include "orchestrator/backend/backend.h"

namespace conclave::orchestrator {

// What a scripted worker says: one delta per piece, `piece_ms` apart. A status ends the stream after the pieces.
struct ScriptedAnswer {
  std::vector<std::string> pieces = {};
  int32_t piece_ms = 0;
  absl::Status status = {};
  bool hang = false;  // after the pieces: until cancelled
};

// Serves on a loopback port from construction on. Where log-probabilities are asked for, every piece was chosen with
// -0.5, the best two were -0.5 and -2.5, the second of them "other". A piece's token id is its place; a continuation
// skips what it has. Counts prompt tokens as words and output tokens as pieces. Thread-safe.
class ScriptedWorker final : public inference::v1::InferenceService::Service {
 public:
  using Answer = std::function<ScriptedAnswer(const inference::v1::GenerateRequest&)>;
  // `address` "127.0.0.1:0" takes a free port. Until `answer` returns, the worker does not know the request.
  explicit ScriptedWorker(Answer answer, const std::string& address = "127.0.0.1:0");
  ~ScriptedWorker() override;

  const std::string& address() const { return address_; }
  int32_t running() const { return running_; }
  int32_t requests() const { return requests_; }
  int32_t cancels() const { return cancels_; }  // calls of CancelRequests
  // Totals of all Usage messages that were sent or would have been.
  inference::v1::Usage totals() const;
  void set_yes_logprob(double yes) { yes_logprob_ = yes; }
  // Its engine's steps; they stand still unless a test moves them.
  void set_steps(int64_t steps) { steps_ = steps; }
  // Ends everything as a killed process would: connections break.
  void Kill();

  grpc::Status Generate(grpc::ServerContext* context, const inference::v1::GenerateRequest* request,
                        grpc::ServerWriter<inference::v1::GenerateResponse>* writer) override;
  grpc::Status Score(grpc::ServerContext* context, const inference::v1::ScoreRequest* request,
                     inference::v1::ScoreResponse* response) override;
  grpc::Status GetModel(grpc::ServerContext* context, const inference::v1::GetModelRequest* request,
                        inference::v1::GetModelResponse* response) override;
  grpc::Status GetLoad(grpc::ServerContext* context, const inference::v1::GetLoadRequest* request,
                       inference::v1::GetLoadResponse* response) override;
  grpc::Status CancelRequests(grpc::ServerContext* context, const inference::v1::CancelRequestsRequest* request,
                              inference::v1::CancelRequestsResponse* response) override;

 private:
  bool TakeCancel(const std::string& request_id);

  const Answer answer_;
  std::string address_;
  std::atomic<int32_t> running_ = 0, requests_ = 0, cancels_ = 0;
  std::atomic<double> yes_logprob_ = -0.1;
  std::atomic<int64_t> steps_ = 1;
  std::atomic<bool> killed_ = false;
  mutable Mutex mutex_;
  CondVar changed_;
  std::set<std::string> active_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> cancelled_ ABSL_GUARDED_BY(mutex_);
  inference::v1::Usage totals_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Server> server_;
};

// Collects what a backend tells; waits for ends. Thread-safe.
class CollectingSink final : public CallSink {
 public:
  void OnDelta(CallId id, CallDelta delta) override;
  void OnDone(CallId id, CallOutcome outcome) override;

  CallOutcome Await(CallId id);
  std::string deltas(CallId id) const;
  std::vector<inference::v1::Logprobs> logprobs(CallId id) const;
  void AwaitDeltas(CallId id, size_t bytes) const;

 private:
  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::map<CallId, CallOutcome> done_ ABSL_GUARDED_BY(mutex_);
  std::map<CallId, std::string> deltas_ ABSL_GUARDED_BY(mutex_);
  std::map<CallId, std::vector<inference::v1::Logprobs>> logprobs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::orchestrator
