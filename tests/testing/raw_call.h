// SPDX-License-Identifier: Apache-2.0
// Bytes to a gRPC method, as a client that is not ours might send them. The includer links gRPC.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>

#include <latch>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/check.h"
#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::testing {

// The reply's bytes, or the call's status with its details. `method`: "/package.Service/Method". A method that streams
// its answer will do where it ends with an error.
inline absl::StatusOr<std::string> CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                                           std::string_view bytes) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  const grpc::Slice slice(bytes.data(), bytes.size());
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  grpc::Status status;
  std::latch done(1);
  stub.UnaryCall(&context, method, {}, &request, &response, [&](grpc::Status got) {
    status = std::move(got);
    done.count_down();
  });
  done.wait();
  RETURN_IF_ERROR(rpc::FromGrpc(status));
  grpc::Slice reply;
  CONCLAVE_CHECK(response.DumpToSingleSlice(&reply).ok());
  return std::string(reinterpret_cast<const char*>(reply.begin()), reply.size());
}

}  // namespace conclave::testing
