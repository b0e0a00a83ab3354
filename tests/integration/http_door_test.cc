// SPDX-License-Identifier: Apache-2.0
// Real weights behind a worker, behind the door, behind the HTTP backend: the same words as without the two.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/backend/backend_testing.h"
#include "orchestrator/backend/openai_backend.h"
#include "orchestrator/door/door.h"
#include "orchestrator/fleet/launcher.h"
#include "orchestrator/http/json.h"
#include "orchestrator/store/memory_store.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

class HttpDoorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    deliberation::v1::Fleet fleet;
    auto* member = fleet.add_member();
    member->set_name("m01");
    member->mutable_model()->set_path(CONCLAVE_SOURCE_DIR "/zoo/models/m01");
    member->mutable_model()->set_threads(1);
    member->mutable_model()->set_kv_bytes(16 << 20);
    const auto checked = CheckFleet(fleet, "fleet", "", "");
    CONCLAVE_CHECK(checked.ok());
    LaunchOptions options;
    options.worker_binary = CONCLAVE_BINARY_DIR "/bin/conclave-worker";
    auto launched = LaunchedFleet::Launch(*checked, options);
    CONCLAVE_CHECK_MSG(launched.ok(), launched.status().ToString().c_str());
    fleet_ = *std::move(launched);
    executor_ = *Executor::Start({.store = store_.get(), .backend = &fleet_->backend()});
    graphs_ = *GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
    DoorOptions door;
    door.openai = {.executor = executor_.get(), .backend = &fleet_->backend(), .graphs = graphs_.get(), .bindings = {}};
    door_ = *Door::Start(door);
    OpenAiMember member_over_http;
    member_over_http.name = "m01";
    member_over_http.url = "http://" + door_->address() + "/v1";
    member_over_http.model = "m01";
    OpenAiMember graph = member_over_http;
    graph.name = graph.model = "deliberation/single";
    over_http_ = *NewOpenAiBackend({member_over_http, graph}, {});
  }
  void TearDown() override {
    over_http_.reset();
    door_.reset();
    executor_->Stop();
  }

  CallOutcome Ask(Backend* backend, const std::string& member, uint64_t seed,
                  std::shared_ptr<const deliberation::v1::OutputConstraint> constraint = nullptr) {
    CallRequest request;
    request.id = ++calls_;
    request.member = member;
    request.seed = seed;
    request.prompt.emplace_back().set_role("user");
    request.prompt[0].set_content("Compute 17 + 25 * 3.");
    request.sampling.set_temperature(0.8f);
    request.sampling.set_top_p(0.95f);
    request.sampling.set_top_k(20);
    request.sampling.set_max_output_tokens(48);
    request.stream_tokens = true;
    if (constraint != nullptr) request.sampling.set_max_output_tokens(400);  // white space is free
    request.constraint = std::move(constraint);
    backend->Start(request, &sink_);
    return sink_.Await(request.id);
  }

  std::unique_ptr<Store> store_ = NewMemoryStore();
  std::unique_ptr<LaunchedFleet> fleet_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<GraphLibrary> graphs_;
  std::unique_ptr<Door> door_;
  std::unique_ptr<Backend> over_http_;
  CollectingSink sink_;
  CallId calls_ = uint64_t{1} << 40;  // apart from the executor's and the door's
};

TEST_F(HttpDoorTest, TheSameSeedGivesTheSameTextThroughTheDoor) {
  for (const uint64_t seed : {1u, 2u, 3u, 4u}) {
    const CallOutcome direct = Ask(&fleet_->backend(), "m01", seed);
    const CallOutcome through = Ask(over_http_.get(), "m01", seed);
    ASSERT_OK(direct.status);
    ASSERT_OK(through.status);
    EXPECT_FALSE(direct.text.empty());
    EXPECT_EQ(through.text, direct.text) << "seed " << seed;
    EXPECT_EQ(sink_.deltas(calls_), direct.text);
    EXPECT_EQ(through.finish_reason, direct.finish_reason);
    EXPECT_EQ(through.usage.prompt_token_count(), direct.usage.prompt_token_count());
    EXPECT_EQ(through.usage.output_token_count(), direct.usage.output_token_count());
  }
}

// The schema goes through two doors: ours as a caller's, ours as a member's.
TEST_F(HttpDoorTest, TextsAreJsonOfTheSchemaThatWasAskedFor) {
  deliberation::v1::OutputConstraint constraint;
  constraint.set_json_schema(
      R"({"type": "object", "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 999},
          "sure": {"type": "boolean"}}, "required": ["sum", "sure"], "additionalProperties": false})");
  const auto shared = std::make_shared<const deliberation::v1::OutputConstraint>(constraint);
  for (const char* member : {"m01", "deliberation/single"}) {
    for (const uint64_t seed : {1u, 2u}) {
      const CallOutcome outcome = Ask(over_http_.get(), member, seed, shared);
      ASSERT_OK(outcome.status) << member;
      const http::Json json = http::Json::parse(outcome.text, nullptr, false);
      ASSERT_TRUE(json.is_object()) << member << ": " << outcome.text;
      EXPECT_EQ(json.size(), 2u);
      EXPECT_TRUE(json["sum"].is_number_integer() && json["sure"].is_boolean()) << outcome.text;
      EXPECT_EQ(outcome.finish_reason, inference::v1::FINISH_REASON_STOP);
    }
  }
  constraint.set_json_schema(R"({"not": {}})");  // which cannot be held to
  const CallOutcome refused =
      Ask(over_http_.get(), "m01", 1, std::make_shared<const deliberation::v1::OutputConstraint>(constraint));
  EXPECT_THAT(refused.status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not")));
}

TEST_F(HttpDoorTest, ADeliberationIsAMemberOfAnother) {
  const CallOutcome outcome = Ask(over_http_.get(), "deliberation/single", 1);
  ASSERT_OK(outcome.status);
  EXPECT_FALSE(outcome.text.empty());
  EXPECT_EQ(executor_->ListRuns(0, 10)->size(), 1u);
}

}  // namespace
}  // namespace conclave::orchestrator
