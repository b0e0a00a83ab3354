// SPDX-License-Identifier: Apache-2.0
// Messages <-> bytes. Services take raw bytes from gRPC and parse them themselves, because gRPC 1.51 answers a message
// it cannot decode with UNIMPLEMENTED and no text, and parses on its own threads before any admission.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <google/protobuf/message.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::rpc {

// INVALID_ARGUMENT MALFORMED_MESSAGE: wire format broken, nested too deep, or a string that is not UTF-8 (then the
// field is named).
absl::Status Parse(const grpc::ByteBuffer& bytes, google::protobuf::Message* message);

// Of any size: a client that receives less ends its own call.
grpc::ByteBuffer ToBytes(const google::protobuf::Message& message);

// RESOURCE_EXHAUSTED RESPONSE_TOO_LARGE beyond what clients receive.
absl::StatusOr<grpc::ByteBuffer> Serialize(const google::protobuf::Message& message);

}  // namespace conclave::rpc
