// SPDX-License-Identifier: Apache-2.0
#include "protos/rpc_client.h"

#include <grpc/support/time.h>
#include <grpcpp/create_channel.h>

#include <memory>

#include "common/check.h"
#include "conclave/inference/v1/inference.grpc.pb.h"

namespace conclave::rpc {

namespace pb = ::conclave::inference::v1;

void KeepCallbackQueue() {
  struct Nowhere {
    std::unique_ptr<pb::InferenceService::Stub> stub;
    grpc::ClientContext context;
    pb::GetModelRequest request;
    pb::GetModelResponse response;
  };
  // One call on it, to nowhere, makes it a user of the queue.
  static Nowhere* const nowhere = [] {
    auto* made = new Nowhere;
    made->stub = pb::InferenceService::NewStub(
        grpc::CreateChannel("unix:/nonexistent/conclave", grpc::InsecureChannelCredentials()));
    SetDeadline(&made->context, 0);
    made->stub->async()->GetModel(&made->context, &made->request, &made->response, [](const grpc::Status&) {});
    return made;
  }();
  CONCLAVE_CHECK(nowhere != nullptr);
}

gpr_timespec After(int64_t ns) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(ns, GPR_TIMESPAN));
}

void SetDeadline(grpc::ClientContext* context, int64_t timeout_ns) { context->set_deadline(After(timeout_ns)); }

}  // namespace conclave::rpc
