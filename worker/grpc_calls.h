// SPDX-License-Identifier: Apache-2.0
// gRPC's callback API, used in one way: a stream's transport, and unary calls answered where they arrive or in the
// pool. For service.cc.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "common/status.h"
#include "protos/rpc_status.h"
#include "worker/call_pool.h"
#include "worker/generate_stream.h"
#include "worker/limits.h"
#include "worker/wire.h"

namespace conclave::worker {

// A stream's transport over gRPC's callback API. Keeps the stream alive until OnDone, which is always the last
// reaction.
class Reactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public StreamTransport {
 public:
  Reactor(std::shared_ptr<GenerateStream> stream, grpc::CallbackServerContext* context)
      : stream_(std::move(stream)), context_(context) {}

  void StartWrite(const grpc::ByteBuffer* bytes) override { ServerWriteReactor::StartWrite(bytes); }
  void Finish(const grpc::Status& status) override { ServerWriteReactor::Finish(status); }
  void TryCancel() override { context_->TryCancel(); }

  void OnWriteDone(bool ok) override { stream_->OnWriteDone(ok); }
  void OnCancel() override { stream_->OnCancel(); }
  void OnDone() override {
    stream_->OnTransportDone();
    delete this;
  }

 private:
  const std::shared_ptr<GenerateStream> stream_;
  grpc::CallbackServerContext* const context_;
};

inline absl::Status Overloaded(std::string_view what) {
  return rpc::WithRetryDelay(
      rpc::WithReason(ResourceExhausted("{}; try again, or ask another worker", what), "OVERLOADED"), kOverloadRetryNs);
}

// Finishes a unary call with a message or an error. `reply` is valid until then.
inline void Finish(grpc::ServerUnaryReactor* reactor, const absl::Status& status,
                   const google::protobuf::Message& message, grpc::ByteBuffer* reply) {
  if (!status.ok()) return reactor->Finish(rpc::ToGrpc(status));
  const absl::StatusOr<grpc::ByteBuffer> bytes = Serialize(message);
  if (bytes.ok()) *reply = *bytes;  // shares the bytes
  reactor->Finish(rpc::ToGrpc(bytes.status()));
}

// A unary call answered where it arrives: small, and without the engine.
template <typename Request, typename Response, typename Handle>
grpc::ServerUnaryReactor* AnswerHere(grpc::CallbackServerContext* context, const grpc::ByteBuffer& bytes,
                                     grpc::ByteBuffer* reply, Handle handle) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  Request request;
  Response response;
  absl::Status status;
  if (static_cast<int64_t>(bytes.Length()) > kSmallCallBytesMax) {
    status = rpc::WithReason(
        InvalidArgument("{}: {} bytes, at most {}", Request::descriptor()->name(), bytes.Length(), kSmallCallBytesMax),
        "INVALID_REQUEST");
  } else {
    status = Parse(bytes, &request);
  }
  if (status.ok()) status = handle(request, &response);
  Finish(reactor, status, response, reply);
  return reactor;
}

// A unary call that the pool parses and answers.
template <typename Request, typename Response, typename Handle>
grpc::ServerUnaryReactor* AnswerInPool(CallPool* pool, grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer& bytes, grpc::ByteBuffer* reply, Handle handle) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const bool taken = pool->TryRun(static_cast<int64_t>(bytes.Length()), [reactor, bytes, reply, handle] {
    Request request;
    Response response;
    absl::Status status = Parse(bytes, &request);
    if (status.ok()) status = handle(request, &response);
    Finish(reactor, status, response, reply);
  });
  if (!taken) Finish(reactor, Overloaded("too many calls wait to be read"), Response(), reply);
  return reactor;
}

}  // namespace conclave::worker
