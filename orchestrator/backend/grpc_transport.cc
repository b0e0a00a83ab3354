// SPDX-License-Identifier: Apache-2.0
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <utility>

#include "common/status.h"
#include "conclave/inference/v1/inference.grpc.pb.h"
#include "orchestrator/backend/worker_transport.h"
#include "protos/rpc_client.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;

constexpr int64_t kDescribeTimeoutNs = 2'000'000'000;

template <typename Request, typename Response>
struct Exchange {
  grpc::ClientContext context;
  Request request;
  Response response;
};

class GrpcTransport final : public WorkerTransport {
 public:
  explicit GrpcTransport(std::vector<std::unique_ptr<pb::InferenceService::Stub>> stubs) : stubs_(std::move(stubs)) {}

  std::shared_ptr<WorkerCall> MakeCall(int32_t worker, WorkerCall::Start start) override {
    start.stub = StubOf(worker);
    return WorkerCall::Create(std::move(start));
  }

  void GetModel(int32_t worker, std::function<void(const absl::Status&, const pb::GetModelResponse&)> done) override {
    auto exchange = std::make_shared<Exchange<pb::GetModelRequest, pb::GetModelResponse>>();
    exchange->context.set_wait_for_ready(true);
    rpc::SetDeadline(&exchange->context, kDescribeTimeoutNs);
    StubOf(worker)->async()->GetModel(&exchange->context, &exchange->request, &exchange->response,
                                      [exchange, done = std::move(done)](const grpc::Status& status) {
                                        done(rpc::FromGrpc(status), exchange->response);
                                      });
  }

  void GetLoad(int32_t worker, std::function<void(const absl::Status&, const pb::GetLoadResponse&)> done) override {
    auto exchange = std::make_shared<Exchange<pb::GetLoadRequest, pb::GetLoadResponse>>();
    rpc::SetDeadline(&exchange->context, kDescribeTimeoutNs);
    StubOf(worker)->async()->GetLoad(&exchange->context, &exchange->request, &exchange->response,
                                     [exchange, done = std::move(done)](const grpc::Status& status) {
                                       done(rpc::FromGrpc(status), exchange->response);
                                     });
  }

  void CancelRequests(int32_t worker, const std::vector<std::string>& request_ids,
                      std::function<void(const absl::Status&)> done) override {
    auto exchange = std::make_shared<Exchange<pb::CancelRequestsRequest, pb::CancelRequestsResponse>>();
    rpc::SetDeadline(&exchange->context, kDescribeTimeoutNs);
    exchange->request.mutable_request_ids()->Add(request_ids.begin(), request_ids.end());
    StubOf(worker)->async()->CancelRequests(
        &exchange->context, &exchange->request, &exchange->response,
        [exchange, done = std::move(done)](const grpc::Status& status) { done(rpc::FromGrpc(status)); });
  }

 private:
  pb::InferenceService::Stub* StubOf(int32_t worker) const { return stubs_[static_cast<size_t>(worker)].get(); }

  const std::vector<std::unique_ptr<pb::InferenceService::Stub>> stubs_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerTransport>> NewGrpcTransport(const std::vector<std::string>& addresses,
                                                                  const rpc::TlsFiles& tls) {
  rpc::KeepCallbackQueue();
  ASSIGN_OR_RETURN(const auto credentials, rpc::ChannelCredentials(tls));
  std::vector<std::unique_ptr<pb::InferenceService::Stub>> stubs;
  for (const std::string& address : addresses) {
    RETURN_IF_ERROR(rpc::ParseAddress(address).status());
    grpc::ChannelArguments arguments = rpc::ChannelArguments();
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // one connection each, never shared by accident
    stubs.push_back(pb::InferenceService::NewStub(grpc::CreateCustomChannel(address, credentials, arguments)));
  }
  return std::make_unique<GrpcTransport>(std::move(stubs));
}

}  // namespace conclave::orchestrator
