// SPDX-License-Identifier: Apache-2.0
#include "protos/rpc_wire.h"

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <cstdio>
#include <string>

#include "common/status.h"
#include "protos/rpc_endpoint.h"
#include "protos/rpc_status.h"

namespace conclave::rpc {
namespace {

// What protobuf logs while this thread parses: the only place where it says which string is not UTF-8.
thread_local std::string* parse_log = nullptr;

void CaptureLog(google::protobuf::LogLevel level, const char* file, int line, const std::string& message) {
  if (parse_log != nullptr) {
    *parse_log = message;
  } else if (level >= google::protobuf::LOGLEVEL_WARNING) {
    std::fprintf(stderr, "protobuf %s:%d: %s\n", file, line, message.c_str());
  }
}

// "String field 'conclave.inference.v1.Prompt.text' contains invalid UTF-8 data when parsing .." -> the field's name.
std::string QuotedName(const std::string& log) {
  const size_t begin = log.find('\'');
  const size_t end = begin == std::string::npos ? begin : log.find('\'', begin + 1);
  return end == std::string::npos ? std::string() : log.substr(begin + 1, end - begin - 1);
}

}  // namespace

absl::Status Parse(const grpc::ByteBuffer& bytes, google::protobuf::Message* message) {
  [[maybe_unused]] static const bool installed = (google::protobuf::SetLogHandler(&CaptureLog), true);
  grpc::ByteBuffer readable = bytes;  // shares the bytes; the reader wants a mutable handle
  grpc::ProtoBufferReader reader(&readable);
  std::string log;
  parse_log = &log;
  const bool parsed = reader.status().ok() && message->ParseFromZeroCopyStream(&reader);
  parse_log = nullptr;
  if (parsed) return absl::OkStatus();
  const std::string& type = message->GetDescriptor()->name();
  if (const std::string field = QuotedName(log); !field.empty()) {
    return WithReason(InvalidArgument("{}: the string {} is not UTF-8", type, field), "MALFORMED_MESSAGE");
  }
  return WithReason(InvalidArgument("{}: {} bytes that are no such message", type, bytes.Length()),
                    "MALFORMED_MESSAGE");
}

grpc::ByteBuffer ToBytes(const google::protobuf::Message& message) {
  grpc::Slice slice(message.ByteSizeLong());
  // A fresh Slice has one owner, so writing through it is what it is for; its accessor is const all the same.
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

absl::StatusOr<grpc::ByteBuffer> Serialize(const google::protobuf::Message& message) {
  const size_t size = message.ByteSizeLong();
  if (size > static_cast<size_t>(kClientReceiveBytesMax)) {
    return WithReason(ResourceExhausted("{}: {} bytes, clients receive at most {}; ask for less in one call",
                                        message.GetDescriptor()->name(), size, kClientReceiveBytesMax),
                      "RESPONSE_TOO_LARGE");
  }
  return ToBytes(message);
}

}  // namespace conclave::rpc
