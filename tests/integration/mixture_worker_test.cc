// SPDX-License-Identifier: Apache-2.0
// A mixture of experts behind gRPC: routing.top_k per request gives the tokens that transformers gives with as many
// experts, in the counters only what was chosen, and never another policy's cached prefix.
#include <grpcpp/create_channel.h>

#include <nlohmann/json.hpp>

#include "common/file.h"
#include "protos/rpc_endpoint.h"
#include "protos/rpc_status.h"
#include "tests/golden/family_files.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/worker_child.h"
#include "worker/worker_testing.h"

namespace conclave {
namespace {

namespace pb = ::conclave::inference::v1;
using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::conclave::worker::Events;
using ::conclave::worker::GenerateCall;
using ::testing::HasSubstr;

// The first case of families.json, Mixtral: every layer a mixture of 8 experts, 4 of them chosen.
class MixtureWorker : public ::testing::Test {
 protected:
  MixtureWorker()
      : golden_(nlohmann::json::parse(*ReadFile(std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/families.json"))),
        case_(golden_["cases"][0]) {
    const std::string path = dir_.Path("mixture.gguf");
    testing::FamilyGguf(testing::FamilyCheckpoint(case_), engine::DType::kBF16).Write(path);
    worker_ = std::make_unique<testing::WorkerChild>(path);
    stub_ = pb::InferenceService::NewStub(grpc::CreateChannel(worker_->address(), grpc::InsecureChannelCredentials()));
  }

  pb::GenerateRequest Request(std::optional<int32_t> top_k) const {
    pb::GenerateRequest request;
    for (const int32_t id : golden_["prompt"]) request.mutable_prompt()->mutable_token_ids()->add_ids(id);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stopping()->set_max_output_token_count(static_cast<int32_t>(case_["runs"][0]["greedy"].size()));
    request.mutable_stopping()->set_ignore_end_of_sequence(true);
    request.mutable_output()->set_token_ids(true);
    if (top_k) request.mutable_routing()->set_top_k(*top_k);
    return request;
  }

  // Expects the golden's tokens and the counters of a prompt of which `cached` tokens were found.
  void Expect(const pb::GenerateRequest& request, const nlohmann::json& run, int64_t cached) {
    GenerateCall call(stub_.get(), request);
    Events events;
    ASSERT_OK(call.Finish(&events));
    std::vector<int32_t> tokens;
    for (const pb::GenerateResponse& event : events) {
      tokens.insert(tokens.end(), event.delta().token_ids().begin(), event.delta().token_ids().end());
    }
    EXPECT_EQ(tokens, run["greedy"].get<std::vector<int32_t>>());
    const pb::Usage& usage = events.back().usage();
    EXPECT_EQ(usage.cached_prompt_token_count(), cached);
    // The last token is not computed on.
    const auto computed = static_cast<int64_t>(golden_["prompt"].size() + tokens.size()) - 1 - cached;
    EXPECT_EQ(usage.expert_activation_count(),
              computed * case_["config"]["num_hidden_layers"].get<int64_t>() * run["top_k"].get<int64_t>());
  }

  const nlohmann::json golden_;
  const nlohmann::json& case_;
  testing::TempDir dir_;
  std::unique_ptr<testing::WorkerChild> worker_;
  std::unique_ptr<pb::InferenceService::Stub> stub_;
};

TEST_F(MixtureWorker, FewerExpertsPerRequest) {
  const nlohmann::json &native = case_["runs"][0], &reduced = case_["runs"][1];
  ASSERT_EQ(native["top_k"], 4);
  ASSERT_EQ(reduced["top_k"], 2);
  const auto found = static_cast<int64_t>(golden_["prompt"].size()) - 1;  // the last one's logits are wanted
  Expect(Request(std::nullopt), native, 0);
  Expect(Request(2), reduced, 0);  // the same prompt, but another policy's keys and values
  Expect(Request(2), reduced, found);
  Expect(Request(4), native, found);  // the model's own number by name is the default
}

TEST_F(MixtureWorker, NumbersThatCannotBeAreRefused) {
  for (const int32_t top_k : {-1, 0, 5, 9}) {
    const absl::Status status = GenerateCall(stub_.get(), Request(top_k)).Finish();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("routing.top_k"))) << top_k;
  }
  EXPECT_OK(GenerateCall(stub_.get(), Request(1)).Finish());
}

}  // namespace
}  // namespace conclave
