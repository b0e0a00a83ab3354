// SPDX-License-Identifier: Apache-2.0
// conclave.inference.v1.InferenceService over a ModelHost.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "common/call_pool.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "conclave/inference/v1/inference.grpc.pb.h"
#include "conclave/inference/v1/inference.pb.h"
#include "worker/generate_stream.h"
#include "worker/metrics.h"
#include "worker/model_host.h"
#include "worker/prefix_table.h"
#include "worker/stream_table.h"

namespace conclave::worker {

// Every method raw: gRPC hands over bytes, and this room parses them (why: protos/rpc_wire.h).
template <typename Base>
using RawGenerate = pb::InferenceService::WithRawCallbackMethod_Generate<Base>;
template <typename Base>
using RawScore = pb::InferenceService::WithRawCallbackMethod_Score<Base>;
template <typename Base>
using RawText =
    pb::InferenceService::WithRawCallbackMethod_Tokenize<pb::InferenceService::WithRawCallbackMethod_Detokenize<Base>>;
template <typename Base>
using RawState =
    pb::InferenceService::WithRawCallbackMethod_GetModel<pb::InferenceService::WithRawCallbackMethod_GetLoad<Base>>;
template <typename Base>
using RawControl =
    pb::InferenceService::WithRawCallbackMethod_CancelRequests<pb::InferenceService::WithRawCallbackMethod_Drain<Base>>;
template <typename Base>
using RawPrefixes =
    pb::InferenceService::WithRawCallbackMethod_PinPrefix<pb::InferenceService::WithRawCallbackMethod_RenewPrefixes<
        pb::InferenceService::WithRawCallbackMethod_ReleasePrefixes<Base>>>;
using RawInferenceService =
    RawGenerate<RawScore<RawText<RawState<RawControl<RawPrefixes<pb::InferenceService::Service>>>>>>;

// Thread-safe. A call that needs parsing, tokenizing or the engine goes through a bounded pool; GetModel, GetLoad,
// CancelRequests, Drain, RenewPrefixes and ReleasePrefixes are answered where they arrive, so they work under any load.
// Lifetime: outlives the gRPC server it is registered with; the host outlives it, and no sink is called after it is
// gone.
class Service final : public RawInferenceService {
 public:
  struct Options {
    const Clock* clock = &Clock::System();
    std::string instance_id;         // UUID of this process
    std::string version;             // of the program
    std::function<void()> on_drain;  // called once, when draining begins: turn health to NOT_SERVING
    int32_t pool_threads = 2;
  };
  // `metrics` is kept alive by the service.
  Service(ModelHost* host, std::shared_ptr<Metrics> metrics, Options options);
  ~Service() override;

  using Context = grpc::CallbackServerContext;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(Context* context, const grpc::ByteBuffer* bytes) override;
  grpc::ServerUnaryReactor* Score(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* Tokenize(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* Detokenize(Context* context, const grpc::ByteBuffer* bytes,
                                       grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* GetModel(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* GetLoad(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* CancelRequests(Context* context, const grpc::ByteBuffer* bytes,
                                           grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* Drain(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) override;

  grpc::ServerUnaryReactor* PinPrefix(Context* context, const grpc::ByteBuffer* bytes,
                                      grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* RenewPrefixes(Context* context, const grpc::ByteBuffer* bytes,
                                          grpc::ByteBuffer* reply) override;
  grpc::ServerUnaryReactor* ReleasePrefixes(Context* context, const grpc::ByteBuffer* bytes,
                                            grpc::ByteBuffer* reply) override;

  // Lets pinned prefixes go and refuses new requests; those still running after `grace_ns` end with UNAVAILABLE
  // DRAINING. A later call can only shorten the time.
  void BeginDrain(int64_t grace_ns);
  // Waits until every Generate stream has ended. False after `timeout_ns`.
  bool WaitIdle(int64_t timeout_ns) const { return streams_.WaitEmpty(timeout_ns); }
  // Housekeeping, to be called a few times a second: stalled readers, leases of prefixes, the end of a drain's grace.
  void Tick();

 private:
  // Where a prompt's tokens come from.
  struct TokenizedPrompt {
    std::vector<engine::TokenId> tokens;
    std::string text;  // what was tokenized; empty for token ids
  };

  void StartGenerate(const grpc::ByteBuffer& bytes, int64_t deadline_ns, const std::shared_ptr<GenerateStream>& stream);
  absl::Status PrepareGenerate(const pb::GenerateRequest& request, engine::GenerateRequest* prepared) const;
  absl::Status PrepareScore(const pb::ScoreRequest& request, engine::ScoreRequest* prepared) const;
  absl::Status PreparePin(const pb::PinPrefixRequest& request, engine::PinRequest* prepared) const;
  // `cache_salt`: of the request; a pinned prefix is found with its own only.
  absl::StatusOr<TokenizedPrompt> TokenizePrompt(const pb::Prompt& prompt, ModelHost::TextPart part,
                                                 std::string_view cache_salt) const;
  absl::StatusOr<std::vector<engine::TokenId>> TokensOfPrefix(const pb::PrefixPrompt& prefix,
                                                              std::string_view cache_salt) const;
  absl::Status CheckModel(std::string_view model) const;
  absl::Status CheckFits(int64_t prompt_tokens, int64_t further_tokens) const;
  // Nanoseconds of clock.NowNs(); 0 for a call without deadline.
  int64_t DeadlineNs(const Context& context) const;
  absl::Status Draining() const;
  // Lets the pool run `call`, which reads `bytes`, unless this worker drains or too much waits already.
  absl::Status Take(const grpc::ByteBuffer& bytes, std::function<void()> call);

  ModelHost* const host_;
  const std::shared_ptr<Metrics> metrics_;
  const Options options_;
  StreamTable streams_;
  const std::shared_ptr<PrefixTable> prefixes_;  // calls of PinPrefix may outlive the service
  const GenerateStream::Shared shared_;
  std::atomic<uint64_t> made_ids_{0};

  mutable Mutex drain_mutex_;
  bool draining_ ABSL_GUARDED_BY(drain_mutex_) = false;
  int64_t drain_deadline_ns_ ABSL_GUARDED_BY(drain_mutex_) = 0;

  CallPool pool_;  // last: its threads use everything above
};

}  // namespace conclave::worker
