// SPDX-License-Identifier: Apache-2.0
// Prefixes pinned in the real conclave-worker process: found whatever passes through its cache, gone with their lease,
// their release or their process.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <csignal>

#include "common/hash.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"
#include "tests/testing/worker_child.h"
#include "worker/worker_testing.h"

namespace conclave {
namespace {

namespace pb = ::conclave::inference::v1;
using ::conclave::testing::IsOk;
using ::conclave::worker::Events;
using ::conclave::worker::GenerateCall;

constexpr int32_t kTrunk = 100, kContext = 160;

class PinnedPrefix : public ::testing::Test {
 protected:
  PinnedPrefix() {
    testing::TinyModel({.context_tokens = kContext}).Write(dir_.Path("tiny.gguf"));
    Start();
  }
  // Four sequences at a time, so that there are pages for four of the longest, and not more.
  void Start() {
    worker_ = std::make_unique<testing::WorkerChild>(dir_.Path("tiny.gguf"));
    stub_ = pb::InferenceService::NewStub(grpc::CreateChannel(worker_->address(), grpc::InsecureChannelCredentials()));
  }

  static pb::TokenIds Ids(uint64_t number, int32_t count) {
    pb::TokenIds ids;
    for (int32_t i = 0; i < count; ++i) ids.add_ids(static_cast<int32_t>(Mix64(number << 16 | i) % 256));
    return ids;
  }
  absl::StatusOr<pb::PinPrefixResponse> Pin(const pb::PinPrefixRequest& request) {
    grpc::ClientContext context;
    pb::PinPrefixResponse response;
    const absl::Status status = rpc::FromGrpc(stub_->PinPrefix(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
  pb::PinPrefixRequest Trunk() const {
    pb::PinPrefixRequest request;
    *request.mutable_prompt()->mutable_token_ids() = Ids(1, kTrunk);
    return request;
  }
  // What one greedy token after the prompt cost; or why there was none.
  absl::StatusOr<pb::Usage> Usage(const pb::Prompt& prompt) {
    pb::GenerateRequest request;
    *request.mutable_prompt() = prompt;
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stopping()->set_max_output_token_count(1);
    request.mutable_stopping()->set_ignore_end_of_sequence(true);
    Events events;
    const absl::Status status = GenerateCall(stub_.get(), request).Finish(&events);
    if (!status.ok()) return status;
    return events.back().usage();
  }
  static pb::Prompt After(const std::string& prefix_id, int32_t next) {
    pb::Prompt prompt;
    prompt.mutable_prefix()->set_prefix_id(prefix_id);
    prompt.mutable_prefix()->mutable_token_ids()->add_ids(next);
    return prompt;
  }
  // More than the cache holds.
  void Flood() {
    const pb::GetLoadResponse load = Load();
    for (int32_t i = 0; i * 4 < load.kv_block_total_count(); ++i) {  // each takes five pages
      pb::Prompt prompt;
      *prompt.mutable_token_ids() = Ids(1000 + static_cast<uint64_t>(i), kContext - 10);
      EXPECT_OK(Usage(prompt));
    }
  }
  pb::GetLoadResponse Load() {
    grpc::ClientContext context;
    pb::GetLoadResponse response;
    EXPECT_OK(rpc::FromGrpc(stub_->GetLoad(&context, {}, &response)));
    return response;
  }

  testing::TempDir dir_;
  std::unique_ptr<testing::WorkerChild> worker_;
  std::unique_ptr<pb::InferenceService::Stub> stub_;
};

TEST_F(PinnedPrefix, IsFoundWhateverPassesThroughTheCache) {
  pb::Prompt whole;
  *whole.mutable_token_ids() = Ids(1, kTrunk);
  whole.mutable_token_ids()->add_ids(5);
  EXPECT_EQ(Usage(whole)->cached_prompt_token_count(), 0);
  Flood();
  EXPECT_EQ(Usage(whole)->cached_prompt_token_count(), 0) << "the cache is meant to be too small";
  const auto pinned = Pin(Trunk());
  ASSERT_OK(pinned);
  EXPECT_EQ(pinned->token_count(), kTrunk);
  for (int32_t branch = 6; branch < 10; ++branch) {
    Flood();
    EXPECT_EQ(Usage(After(pinned->prefix_id(), branch))->cached_prompt_token_count(), kTrunk);
  }
  Flood();
  whole.mutable_token_ids()->set_ids(kTrunk, 11);
  EXPECT_EQ(Usage(whole)->cached_prompt_token_count(), kTrunk) << "also without its name";
  EXPECT_EQ(Load().pinned_prefix_count(), 1);
  EXPECT_EQ(Load().pinned_kv_block_count(), 4);

  grpc::ClientContext context;
  pb::ReleasePrefixesRequest release;
  release.add_prefix_ids(pinned->prefix_id());
  pb::ReleasePrefixesResponse released;
  ASSERT_OK(rpc::FromGrpc(stub_->ReleasePrefixes(&context, release, &released)));
  EXPECT_THAT(released.outcomes(), ::testing::ElementsAre(pb::ReleasePrefixesResponse::OUTCOME_RELEASED));
  Flood();
  whole.mutable_token_ids()->set_ids(kTrunk, 12);
  EXPECT_EQ(Usage(whole)->cached_prompt_token_count(), 0);
  EXPECT_EQ(Load().pinned_kv_block_count(), 0);
}

TEST_F(PinnedPrefix, IsGoneWithItsLeaseAndWithItsProcess) {
  pb::PinPrefixRequest request = Trunk();
  request.mutable_lease()->set_nanos(1);
  const auto brief = Pin(request);
  ASSERT_OK(brief);
  EXPECT_EQ(rpc::Reason(Usage(After(brief->prefix_id(), 1)).status()), "PREFIX_NOT_FOUND");
  const auto pinned = Pin(Trunk());
  ASSERT_OK(pinned);
  EXPECT_OK(Usage(After(pinned->prefix_id(), 1)).status());
  worker_->process().Signal(SIGKILL);
  worker_->process().Wait();
  Start();
  EXPECT_EQ(rpc::Reason(Usage(After(pinned->prefix_id(), 1)).status()), "PREFIX_NOT_FOUND");
  EXPECT_OK(Pin(Trunk()).status());
}

}  // namespace
}  // namespace conclave
