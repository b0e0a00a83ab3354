// SPDX-License-Identifier: Apache-2.0
// A model host without a model, played by the test; a clock that threads may share; a served worker with a client.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "conclave/inference/v1/inference.grpc.pb.h"
#include "protos/rpc_status.h"
#include "worker/model_host.h"
#include "worker/server.h"

namespace conclave::worker {

// Moved by hand, from any thread. Wall time is the real one, so that gRPC's deadlines mean something.
class SharedClock final : public Clock {
 public:
  int64_t NowNs() const override { return now_ns_; }
  int64_t UnixNs() const override { return Clock::System().UnixNs(); }
  void AdvanceNs(int64_t ns) { now_ns_ += ns; }

 private:
  std::atomic<int64_t> now_ns_{1'000'000'000};
};

// One token per byte, in front of them kBegin. The test is the engine: it waits for a submitted request and then calls
// its sink. A cancelled request ends with CANCELLED, told from the thread that cancels. Thread-safe.
class FakeHost final : public ModelHost {
 public:
  static constexpr int32_t kVocab = 300;
  static constexpr int32_t kContext = 64;
  static constexpr engine::TokenId kBegin = 299;

  struct Submitted {
    engine::RequestId id = 0;
    engine::GenerateRequest request;
    std::shared_ptr<engine::GenerateSink> sink;
  };

  FakeHost();

  // ---- For the test
  // The n-th submitted request, from 0; waits for it.
  Submitted AwaitSubmitted(int32_t n);
  void AwaitCancelled(engine::RequestId id);
  int32_t submitted_count() const;
  bool cancelled(engine::RequestId id) const;
  int32_t resumes(engine::RequestId id) const;  // how often Resume was called
  // True if the request may end now: it was not cancelled, and from now on cannot be.
  bool FinishOnce(engine::RequestId id);
  void set_submit_error(absl::Status error);
  void set_info(const std::function<void(engine::ModelInfo*)>& change) { change(&info_); }  // before serving
  // The work that a cancelled request reports.
  void set_cancelled_usage(const engine::Usage& usage);
  // Called instead of nothing for every Tokenize: lets a test hold the pool's threads.
  void set_on_tokenize(std::function<void()> hook);
  // What pins get instead of being pinned.
  void set_pin_error(absl::Status error);
  // Pins are told by the returned function, which the test calls once for each.
  std::function<void()> HoldBackPins();
  std::vector<engine::PinRequest> pin_requests() const;
  std::vector<engine::PinId> unpinned() const;  // in order

  // ---- ModelHost
  const engine::ModelInfo& info() const override { return info_; }
  absl::StatusOr<std::vector<engine::TokenId>> Tokenize(std::string_view text, TextPart part) const override;
  std::string Detokenize(std::span<const engine::TokenId> tokens) const override;
  engine::TokenText TextOf(engine::TokenId token) const override;
  absl::StatusOr<engine::Engine::ChatPrompt> ApplyChatTemplate(std::span<const engine::ChatMessage> messages,
                                                               bool generation_prompt,
                                                               int64_t now_unix_seconds) const override;
  absl::StatusOr<engine::RequestId> Submit(engine::GenerateRequest request,
                                           std::shared_ptr<engine::GenerateSink> sink) override;
  void Cancel(engine::RequestId id) override;
  void Resume(engine::RequestId id) override;
  // Log-probability -0.5 per token, greedy.
  absl::Status Score(engine::ScoreRequest request,
                     std::function<void(absl::StatusOr<engine::ScoreResult>)> done) override;
  // Ids are 1, 2, ..; told at once, unless held back.
  absl::Status Pin(engine::PinRequest request, std::function<void(absl::StatusOr<engine::PinResult>)> done) override;
  void Unpin(engine::PinId id) override;
  engine::EngineLoad load() const override;
  void Drain() override;

 private:
  engine::ModelInfo info_{};
  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<Submitted> submitted_ ABSL_GUARDED_BY(mutex_);
  std::map<engine::RequestId, int32_t> cancelled_ ABSL_GUARDED_BY(mutex_);
  std::map<engine::RequestId, int32_t> resumed_ ABSL_GUARDED_BY(mutex_);
  absl::Status submit_error_ ABSL_GUARDED_BY(mutex_);
  engine::Usage cancelled_usage_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> on_tokenize_ ABSL_GUARDED_BY(mutex_);
  absl::Status pin_error_ ABSL_GUARDED_BY(mutex_);
  bool hold_pins_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> held_pins_ ABSL_GUARDED_BY(mutex_);
  std::vector<engine::PinRequest> pin_requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<engine::PinId> unpinned_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

// "text" as one delta of `sample`, a token per byte.
engine::SampleDelta TextDelta(std::string_view text, int32_t sample = 0,
                              std::optional<engine::FinishReason> finished = std::nullopt);
engine::Usage UsageOf(int64_t prompt_tokens, int64_t output_tokens);

// A worker on a loopback port with its client.
struct ServedWorker {
  explicit ServedWorker(ServerOptions options = {});
  FakeHost host;
  SharedClock clock;
  std::unique_ptr<Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<pb::InferenceService::Stub> stub;
};

// A Generate call in progress.
class GenerateCall {
 public:
  GenerateCall(pb::InferenceService::Stub* stub, const pb::GenerateRequest& request,
               std::optional<int64_t> timeout_ms = std::nullopt);
  // The next event, or nothing at the end.
  std::optional<pb::GenerateResponse> Read();
  // Reads what is left; then the call's status.
  absl::Status Finish(std::vector<pb::GenerateResponse>* events = nullptr);
  void Cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<pb::GenerateResponse>> reader_;
};

using Events = std::vector<pb::GenerateResponse>;
// The text of one sample.
std::string TextOf(const Events& events, int32_t sample = 0);

using Stub = pb::InferenceService::Stub;
template <typename Request, typename Response>
using Method = grpc::Status (pb::InferenceService::Stub::*)(grpc::ClientContext*, const Request&, Response*);

template <typename Request, typename Response>
absl::StatusOr<Response> Call(ServedWorker* worker, Method<Request, Response> method, const Request& request) {
  grpc::ClientContext context;
  Response response;
  const absl::Status status = rpc::FromGrpc((worker->stub.get()->*method)(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

// Sends bytes as they are to a unary method, by its full name "/package.Service/Method"; its answer's bytes.
absl::StatusOr<std::string> CallRaw(ServedWorker* worker, const std::string& method, std::string_view bytes);

pb::GenerateRequest TextRequest(std::string_view text, std::string_view request_id = "");

}  // namespace conclave::worker
