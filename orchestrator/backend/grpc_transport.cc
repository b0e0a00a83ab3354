// SPDX-License-Identifier: Apache-2.0
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "common/mutex.h"
#include "common/status.h"
#include "conclave/inference/v1/inference.grpc.pb.h"
#include "orchestrator/backend/worker_transport.h"
#include "protos/rpc_client.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;

constexpr int64_t kDescribeTimeoutNs = 2'000'000'000;
constexpr int64_t kPinTimeoutNs = 5'000'000'000;  // it may wait for others' prompts to be computed

// What is asked of a worker, and ends by itself soon, or at once when it is told to.
struct Ask {
  virtual ~Ask() = default;
  grpc::ClientContext context;
};
template <typename Request, typename Response>
struct Exchange : Ask {
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
    auto exchange = Open<pb::GetModelRequest, pb::GetModelResponse>();
    exchange->context.set_wait_for_ready(true);
    StubOf(worker)->async()->GetModel(&exchange->context, &exchange->request, &exchange->response,
                                      [this, exchange, done = std::move(done)](const grpc::Status& status) {
                                        Close(exchange.get());
                                        done(rpc::FromGrpc(status), exchange->response);
                                      });
  }

  void GetLoad(int32_t worker, std::function<void(const absl::Status&, const pb::GetLoadResponse&)> done) override {
    auto exchange = Open<pb::GetLoadRequest, pb::GetLoadResponse>();
    StubOf(worker)->async()->GetLoad(&exchange->context, &exchange->request, &exchange->response,
                                     [this, exchange, done = std::move(done)](const grpc::Status& status) {
                                       Close(exchange.get());
                                       done(rpc::FromGrpc(status), exchange->response);
                                     });
  }

  void CancelRequests(int32_t worker, const std::vector<std::string>& request_ids,
                      std::function<void(const absl::Status&)> done) override {
    auto exchange = Open<pb::CancelRequestsRequest, pb::CancelRequestsResponse>();
    exchange->request.mutable_request_ids()->Add(request_ids.begin(), request_ids.end());
    StubOf(worker)->async()->CancelRequests(&exchange->context, &exchange->request, &exchange->response,
                                            [this, exchange, done = std::move(done)](const grpc::Status& status) {
                                              Close(exchange.get());
                                              done(rpc::FromGrpc(status));
                                            });
  }

  void EndAsking() override {
    MutexLock lock(&mutex_);
    ended_ = true;
    for (Ask* ask : open_) ask->context.TryCancel();
  }

  void PinPrefix(int32_t worker, pb::PinPrefixRequest request, Pinned done) override {
    auto exchange = Open<pb::PinPrefixRequest, pb::PinPrefixResponse>(kPinTimeoutNs);
    exchange->request = std::move(request);
    StubOf(worker)->async()->PinPrefix(&exchange->context, &exchange->request, &exchange->response,
                                       [this, exchange, done = std::move(done)](const grpc::Status& status) {
                                         Close(exchange.get());
                                         done(rpc::FromGrpc(status), exchange->response);
                                       });
  }

  void RenewPrefixes(int32_t worker, const std::vector<std::string>& prefix_ids, Renewed done) override {
    auto exchange = Open<pb::RenewPrefixesRequest, pb::RenewPrefixesResponse>();
    exchange->request.mutable_prefix_ids()->Add(prefix_ids.begin(), prefix_ids.end());
    StubOf(worker)->async()->RenewPrefixes(&exchange->context, &exchange->request, &exchange->response,
                                           [this, exchange, done = std::move(done)](const grpc::Status& status) {
                                             Close(exchange.get());
                                             done(rpc::FromGrpc(status), exchange->response);
                                           });
  }

  // Also after EndAsking, and without this object.
  void ReleasePrefixes(int32_t worker, const std::vector<std::string>& prefix_ids) override {
    auto exchange = std::make_shared<Exchange<pb::ReleasePrefixesRequest, pb::ReleasePrefixesResponse>>();
    rpc::SetDeadline(&exchange->context, kDescribeTimeoutNs);
    exchange->request.mutable_prefix_ids()->Add(prefix_ids.begin(), prefix_ids.end());
    StubOf(worker)->async()->ReleasePrefixes(&exchange->context, &exchange->request, &exchange->response,
                                             [exchange](const grpc::Status&) {});
  }

 private:
  template <typename Request, typename Response>
  std::shared_ptr<Exchange<Request, Response>> Open(int64_t timeout_ns = kDescribeTimeoutNs) {
    auto exchange = std::make_shared<Exchange<Request, Response>>();
    rpc::SetDeadline(&exchange->context, timeout_ns);
    MutexLock lock(&mutex_);
    open_.insert(exchange.get());
    if (ended_) exchange->context.TryCancel();  // it counts from the beginning
    return exchange;
  }
  void Close(Ask* ask) {
    MutexLock lock(&mutex_);
    open_.erase(ask);
  }

  pb::InferenceService::Stub* StubOf(int32_t worker) const { return stubs_[static_cast<size_t>(worker)].get(); }

  const std::vector<std::unique_ptr<pb::InferenceService::Stub>> stubs_;
  Mutex mutex_;
  std::set<Ask*> open_ ABSL_GUARDED_BY(mutex_);  // asked and not answered; each keeps itself alive
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

void WorkerTransport::PinPrefix(int32_t /*worker*/, pb::PinPrefixRequest /*request*/, Pinned done) {
  done(Unimplemented("this transport pins no prefixes"), {});
}

void WorkerTransport::RenewPrefixes(int32_t /*worker*/, const std::vector<std::string>& /*prefix_ids*/, Renewed done) {
  done(Unimplemented("this transport pins no prefixes"), {});
}

void WorkerTransport::ReleasePrefixes(int32_t /*worker*/, const std::vector<std::string>& /*prefix_ids*/) {}

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
