// SPDX-License-Identifier: Apache-2.0
// A Generate stream's transport over gRPC's callback API. For service.cc.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "worker/generate_stream.h"

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

}  // namespace conclave::worker
