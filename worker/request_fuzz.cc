// SPDX-License-Identifier: Apache-2.0
// Bytes from the network: parse, validate, convert. The first byte picks the message, the rest is its wire form.
// Whatever they are: no crash, and an error that fits its trailer.
#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>

#include "common/check.h"
#include "protos/rpc_status.h"
#include "protos/rpc_wire.h"
#include "worker/convert.h"
#include "worker/validate.h"

namespace conclave::worker {
namespace {

constexpr int32_t kVocab = 1000;

template <typename Request, typename... Vocab>
absl::Status ParseAndValidate(const grpc::ByteBuffer& bytes, Request* request, Vocab... vocab) {
  if (absl::Status status = rpc::Parse(bytes, request); !status.ok()) return status;
  return Validate(*request, vocab...);
}

absl::Status Handle(uint8_t method, const grpc::ByteBuffer& bytes) {
  switch (method % 9) {
    case 0: {
      pb::GenerateRequest request;
      const absl::Status status = ParseAndValidate(bytes, &request, kVocab);
      if (!status.ok()) return status;
      CONCLAVE_CHECK(ToEngine(request).samples >= 1);
      static_cast<void>(ToEngine(request.prompt().chat()));
      return ToEngine(request.routing(), engine::ModelInfo{}).status();
    }
    case 1: {
      pb::ScoreRequest request;
      return ParseAndValidate(bytes, &request, kVocab);
    }
    case 2: {
      pb::TokenizeRequest request;
      return ParseAndValidate(bytes, &request, kVocab);
    }
    case 3: {
      pb::DetokenizeRequest request;
      return ParseAndValidate(bytes, &request, kVocab);
    }
    case 4: {
      pb::CancelRequestsRequest request;
      return ParseAndValidate(bytes, &request);
    }
    case 5: {
      pb::DrainRequest request;
      return ParseAndValidate(bytes, &request);
    }
    case 6: {
      pb::PinPrefixRequest request;
      return ParseAndValidate(bytes, &request, kVocab);
    }
    case 7: {
      pb::RenewPrefixesRequest request;
      return ParseAndValidate(bytes, &request);
    }
    default: {
      pb::ReleasePrefixesRequest request;
      return ParseAndValidate(bytes, &request);
    }
  }
}

}  // namespace
}  // namespace conclave::worker

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const grpc::Slice slice(data + 1, size - 1);
  const absl::Status status = conclave::worker::Handle(data[0], grpc::ByteBuffer(&slice, 1));
  const grpc::Status wire = conclave::rpc::ToGrpc(status);
  CONCLAVE_CHECK(static_cast<int64_t>(wire.error_message().size()) <= conclave::rpc::kMessageBytesMax);
  CONCLAVE_CHECK(static_cast<int64_t>(wire.error_details().size()) <= conclave::rpc::kDetailsBytesMax);
  CONCLAVE_CHECK(conclave::rpc::FromGrpc(wire).code() == status.code());
  return 0;
}
