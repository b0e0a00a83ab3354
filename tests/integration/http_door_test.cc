// SPDX-License-Identifier: Apache-2.0
// Real weights behind a worker, behind the door, behind the HTTP backend: the same words as without the two.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <future>

#include "common/check.h"
#include "common/status.h"
#include "engine/engine.h"
#include "orchestrator/backend/backend_testing.h"
#include "orchestrator/backend/openai_backend.h"
#include "orchestrator/door/door.h"
#include "orchestrator/fleet/launcher.h"
#include "orchestrator/http/http_testing.h"
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

// What the door tells of each token is what the engine says when it is asked for the likelihood of the same tokens.
TEST_F(HttpDoorTest, LogProbabilitiesAreTheEnginesOwn) {
  CallRequest request;
  request.id = ++calls_;
  request.member = "m01";
  request.seed = 11;
  request.plain = true;
  request.prompt.emplace_back().set_role("user");
  request.prompt[0].set_content("Compute 17 + 25 * 3.");
  request.sampling.set_max_output_tokens(24);
  request.stream_tokens = true;
  request.logprobs = 3;
  fleet_->backend().Start(request, &sink_);
  const CallOutcome direct = sink_.Await(request.id);
  ASSERT_OK(direct.status);
  std::vector<engine::TokenId> ids;
  for (const auto& place : sink_.logprobs(request.id)) ids.push_back(place.chosen().token_id());
  ASSERT_FALSE(ids.empty());

  engine::EngineOptions options;
  options.model_path = CONCLAVE_SOURCE_DIR "/zoo/models/m01";
  options.threads = 1;
  options.kv_bytes = 16 << 20;
  const auto engine = engine::Engine::Create(options);
  ASSERT_OK(engine.status());
  engine::ScoreRequest score;
  score.prompt = *(*engine)->Tokenize(request.prompt[0].content(), engine::Engine::SpecialTokens::kAsText, true);
  score.continuations = {ids};
  absl::StatusOr<engine::ScoreResult> scored;
  std::promise<void> done;
  ASSERT_OK((*engine)->Score(score, [&](absl::StatusOr<engine::ScoreResult> result) {
    scored = std::move(result);
    done.set_value();
  }));
  done.get_future().wait();
  ASSERT_OK(scored.status());
  const std::vector<float>& expected = scored->continuations[0].token_logprobs;

  http::RawConnection connection(std::stoi(door_->address().substr(door_->address().rfind(':') + 1)));
  connection.Send(http::PostText("/v1/completions", R"({"model": "m01", "prompt": "Compute 17 + 25 * 3.", "seed": 11,
                                                        "max_tokens": 24, "logprobs": 3})"));
  const http::Json choice = http::Json::parse(http::BodyOf(connection.Read()))["choices"][0];
  EXPECT_EQ(choice["text"], direct.text);
  const http::Json& logprobs = choice["logprobs"];
  const size_t shown = logprobs["tokens"].size();
  ASSERT_GE(shown + 1, expected.size()) << "all but the end of the turn";
  std::string text;
  for (size_t i = 0; i < shown; ++i) {
    EXPECT_NEAR(logprobs["token_logprobs"][i].get<double>(), expected[i], 1e-4) << i;
    const std::string token = logprobs["tokens"][i];
    EXPECT_EQ(token, (*engine)->TextOf(ids[i]).bytes);
    EXPECT_EQ(logprobs["text_offset"][i], text.size());  // it is ASCII
    text += token;
    const http::Json& best = logprobs["top_logprobs"][i];
    EXPECT_TRUE(best.size() == 3 || best.size() == 4);  // three, the chosen one beside them if it is none of them
    EXPECT_TRUE(best.contains(token));
    for (const auto& [other, logprob] : best.items()) EXPECT_LE(logprob.get<double>(), 1e-6) << other;
  }
  EXPECT_EQ(text, direct.text);
}

TEST_F(HttpDoorTest, ADeliberationIsAMemberOfAnother) {
  const CallOutcome outcome = Ask(over_http_.get(), "deliberation/single", 1);
  ASSERT_OK(outcome.status);
  EXPECT_FALSE(outcome.text.empty());
  EXPECT_EQ(executor_->ListRuns(0, 10)->size(), 1u);
}

}  // namespace
}  // namespace conclave::orchestrator
