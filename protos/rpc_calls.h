// SPDX-License-Identifier: Apache-2.0
// gRPC's callback API over raw bytes, used in one way by every service of ours: a call is admitted first and parsed
// then, because a message can expand fifty-fold in memory (rpc_wire.h). Small calls are answered where they arrive,
// the others in a CallPool.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "common/call_pool.h"
#include "common/status.h"
#include "protos/rpc_status.h"
#include "protos/rpc_wire.h"

namespace conclave::rpc {

// What a call that is answered where it arrives may weigh; 1,024 ids need 40 KiB.
inline constexpr int64_t kSmallCallBytesMax = 64 << 10;

// What RESOURCE_EXHAUSTED OVERLOADED advises to wait.
inline constexpr int64_t kOverloadRetryNs = 500'000'000;

inline absl::Status Overloaded(std::string_view what) {
  return WithRetryDelay(WithReason(ResourceExhausted("{}; try again, or ask another server", what), "OVERLOADED"),
                        kOverloadRetryNs);
}

// INVALID_ARGUMENT INVALID_REQUEST beyond kSmallCallBytesMax, MALFORMED_MESSAGE as Parse.
template <typename Request>
absl::Status ParseSmall(const grpc::ByteBuffer& bytes, Request* request) {
  if (static_cast<int64_t>(bytes.Length()) > kSmallCallBytesMax) {
    return WithReason(
        InvalidArgument("{}: {} bytes, at most {}", Request::descriptor()->name(), bytes.Length(), kSmallCallBytesMax),
        "INVALID_REQUEST");
  }
  return Parse(bytes, request);
}

// Finishes a unary call with a message or an error. `reply` is valid until then.
inline void Finish(grpc::ServerUnaryReactor* reactor, const absl::Status& status,
                   const google::protobuf::Message& message, grpc::ByteBuffer* reply) {
  if (!status.ok()) return reactor->Finish(ToGrpc(status));
  const absl::StatusOr<grpc::ByteBuffer> bytes = Serialize(message);
  if (bytes.ok()) *reply = *bytes;  // shares the bytes
  reactor->Finish(ToGrpc(bytes.status()));
}

// A unary call answered where it arrives: small, and without waiting for anything.
// `handle`: absl::Status(const Request&, Response*).
template <typename Request, typename Response, typename Handle>
grpc::ServerUnaryReactor* AnswerHere(grpc::CallbackServerContext* context, const grpc::ByteBuffer& bytes,
                                     grpc::ByteBuffer* reply, Handle handle) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  Request request;
  Response response;
  absl::Status status = ParseSmall(bytes, &request);
  if (status.ok()) status = handle(request, &response);
  Finish(reactor, status, response, reply);
  return reactor;
}

// Lets the pool run `call`, which reads `bytes`; RESOURCE_EXHAUSTED OVERLOADED when too much waits there already.
inline absl::Status RunInPool(CallPool* pool, const grpc::ByteBuffer& bytes, std::function<void()> call) {
  if (pool->TryRun(static_cast<int64_t>(bytes.Length()), std::move(call))) return absl::OkStatus();
  return Overloaded("too many calls wait to be read");
}

// A unary call that the pool parses and answers.
template <typename Request, typename Response, typename Handle>
grpc::ServerUnaryReactor* AnswerInPool(CallPool* pool, grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer& bytes, grpc::ByteBuffer* reply, Handle handle) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const absl::Status taken = RunInPool(pool, bytes, [reactor, bytes, reply, handle] {
    Request request;
    Response response;
    absl::Status status = Parse(bytes, &request);
    if (status.ok()) status = handle(request, &response);
    Finish(reactor, status, response, reply);
  });
  if (!taken.ok()) Finish(reactor, taken, Response(), reply);
  return reactor;
}

}  // namespace conclave::rpc
