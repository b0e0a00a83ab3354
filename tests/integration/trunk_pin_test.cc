// SPDX-License-Identifier: Apache-2.0
// What an orchestrator's calls begin with, pinned at a real worker: found again after whatever else went through its
// cache. The pin is asked for beside the calls, so this test waits until the worker says that it has it.
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "orchestrator/backend/backend_testing.h"
#include "orchestrator/backend/trunk_table.h"
#include "orchestrator/backend/worker_backend.h"
#include "protos/rpc_status.h"
#include "tests/testing/pause.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"
#include "tests/testing/worker_child.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;
using ::conclave::testing::IsOk;

constexpr int32_t kContext = 1024;

class TrunkPin : public ::testing::Test {
 protected:
  TrunkPin() {
    testing::TinyModel({.context_tokens = kContext}).Write(dir_.Path("tiny.gguf"));
    worker_ = std::make_unique<testing::WorkerChild>(dir_.Path("tiny.gguf"));
    stub_ = pb::InferenceService::NewStub(grpc::CreateChannel(worker_->address(), grpc::InsecureChannelCredentials()));
    auto backend = ConnectWorkers({{.name = "m", .addresses = {worker_->address()}}}, {}, 10'000'000'000);
    CONCLAVE_CHECK(backend.ok());
    backend_ = *std::move(backend);
  }
  pb::Usage Ask(const std::string& prompt) {
    CallRequest request;
    request.id = ++calls_;
    request.member = "m";
    request.prompt.resize(1);
    request.prompt[0].set_role("user");
    request.prompt[0].set_content(prompt);
    request.sampling.set_max_output_tokens(1);
    request.ignore_eos = true;
    CollectingSink sink;
    backend_->Start(request, &sink);
    const CallOutcome outcome = sink.Await(request.id);
    EXPECT_OK(outcome.status);
    return outcome.usage;
  }
  pb::GetLoadResponse Load() {
    grpc::ClientContext context;
    pb::GetLoadResponse response;
    EXPECT_OK(rpc::FromGrpc(stub_->GetLoad(&context, {}, &response)));
    return response;
  }
  // More than the cache holds, of texts that begin differently and are too short for trunks.
  void Flood() {
    for (int i = 0; i < 12; ++i) Ask(std::string(kTrunkBytesMin - 10, static_cast<char>('A' + i)));
  }

  testing::TempDir dir_;
  std::unique_ptr<testing::WorkerChild> worker_;
  std::unique_ptr<pb::InferenceService::Stub> stub_;
  std::unique_ptr<Backend> backend_;
  CallId calls_ = 0;
};

TEST_F(TrunkPin, IsFoundAfterALoadThatEvictsEverythingElse) {
  std::string trunk;
  while (trunk.size() < 560) trunk += std::to_string(trunk.size()) + " ";
  EXPECT_EQ(Ask(trunk + "a").cached_prompt_token_count(), 0);
  Flood();
  EXPECT_LT(Ask(trunk + "b").cached_prompt_token_count(), 10) << "the cache is meant to be too small";
  while (Load().pinned_prefix_count() == 0) testing::Pause();
  Flood();
  Flood();
  EXPECT_GE(Ask(trunk + "c").cached_prompt_token_count(), std::ssize(trunk)) << "a token per byte";
  backend_.reset();
  while (Load().pinned_prefix_count() > 0) testing::Pause();
}

}  // namespace
}  // namespace conclave::orchestrator
